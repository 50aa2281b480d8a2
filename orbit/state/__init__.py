"""What a user writes against: the `State` class, the verbs that its hooks call, and how its fields are written down.

Floor 0: nothing here knows Redis, a worker or a loop. `orbit.worker` implements the verbs.
"""

from __future__ import annotations

from orbit.state.base import Options, State
from orbit.state.hooks import HOOKS, hooks_of, is_async
from orbit.state.roundtrip import flaw_of
from orbit.state.samples import check_definition
from orbit.state.snapshots import become, bind, encode, from_input, rebuild
from orbit.state.verbs import (
    STOP,
    Connection,
    Finished,
    LeaveRun,
    Refused,
    Restarted,
    Step,
    Stop,
    SyncConnection,
    SyncTransaction,
    Transaction,
    Unloaded,
    inside_step,
)

__all__ = [
    "HOOKS",
    "STOP",
    "Connection",
    "Finished",
    "LeaveRun",
    "Options",
    "Refused",
    "Restarted",
    "State",
    "Step",
    "Stop",
    "SyncConnection",
    "SyncTransaction",
    "Transaction",
    "Unloaded",
    "become",
    "bind",
    "check_definition",
    "encode",
    "flaw_of",
    "from_input",
    "hooks_of",
    "inside_step",
    "is_async",
    "rebuild",
]
