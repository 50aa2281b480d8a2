"""The kinds of names, told apart by the type checker."""

from __future__ import annotations

import re
from typing import NewType

TxId = NewType("TxId", str)
"""A transaction's id: 16 to 64 characters of `A-Za-z0-9_-`."""
Session = NewType("Session", str)
"""A session's secret, as its client knows it: 16 to 64 characters of `A-Za-z0-9_-`. Never stored, logged or shown."""
PublicName = NewType("PublicName", str)
"""A session's public name: a keyed hash of its secret. What the store, States, APIs and logs see."""
Epoch = NewType("Epoch", str)
"""The fencing token of one grant: a decimal string of 19 digits. Compared for equality only."""
InboxId = NewType("InboxId", str)
"""The place of one entry in a transaction's inbox, `<n>-<random>`."""

_NAME = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)


def is_name(text: object) -> bool:
    """Whether `text` may be a transaction's id or a session: 16 to 64 characters of `A-Za-z0-9_-`."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None
