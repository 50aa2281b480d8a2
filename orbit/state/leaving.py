"""What leaves a hook from within: `BaseException`s outside `OrbitError`, which `except Exception` doesn't swallow.

    LeaveRun
    ├── Unloaded      the transaction goes on elsewhere, or is over: verbs called after that raise it
    ├── Finished      `finish` or `fail` was committed
    ├── Restarted     `restart` was committed
    └── Refused       `connection.reject` in `on_update`
"""

from __future__ import annotations


class LeaveRun(BaseException):
    """Ends a hook from within. Let it pass: `finally` runs, and verbs called from there raise `Unloaded`."""


class Unloaded(LeaveRun):
    """This worker no longer runs the transaction; nothing more can be committed here."""


class Finished(LeaveRun):
    """The end was committed."""


class Restarted(LeaveRun):
    """`run` begins anew."""


class Refused(LeaveRun):
    """The message is refused; the turn leaves no trace."""
