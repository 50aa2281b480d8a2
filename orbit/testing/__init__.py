"""For the tests of one's own States: run them in virtual time, crash them everywhere, replay a fleet's snapshots.

Needs the extra `testing`: `pip install 'orbit-broker[testing]'`.
"""

from __future__ import annotations

try:
    import fakeredis
    import lupa  # noqa: F401 - fakeredis runs scripts with it
except ImportError as error:
    raise ImportError(f"orbit.testing needs {error.name}: pip install 'orbit-broker[testing]'") from None

from orbit.testing.bench import Bench, run
from orbit.testing.clock import Stuck
from orbit.testing.crashes import CrashInconsistent, Report, assert_crash_consistent
from orbit.testing.job import Job, Refusal, TestClient
from orbit.testing.replay import SnapshotsUnreadable, replay_snapshots

del fakeredis

__all__ = [
    "Bench",
    "CrashInconsistent",
    "Job",
    "Refusal",
    "Report",
    "SnapshotsUnreadable",
    "Stuck",
    "TestClient",
    "assert_crash_consistent",
    "replay_snapshots",
    "run",
]
