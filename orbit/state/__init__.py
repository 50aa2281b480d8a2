"""What a user writes against: the `State` class, the verbs that its hooks call, and how its fields are written down.

Floor 0: nothing here knows Redis, a worker or a loop. `orbit.worker` implements the verbs.
"""

from __future__ import annotations

from orbit.state.base import Options, State
from orbit.state.extensions import Around, Call, Lifespan, Middleware, lifespan, middleware
from orbit.state.hooks import HOOKS, hooks_of, is_async, migrates
from orbit.state.leaving import Finished, LeaveRun, Refused, Restarted, Unloaded
from orbit.state.roundtrip import flaw_of
from orbit.state.samples import check_definition
from orbit.state.snapshots import become, bind, encode, from_input, largest, migrated, rebuild
from orbit.state.steps import CurrentStep, Step, SyncCurrentStep, current_step, enter_step, inside_step
from orbit.state.verbs import (
    STOP,
    Child,
    Connection,
    Message,
    Stop,
    SyncChild,
    SyncConnection,
    SyncTransaction,
    Transaction,
)

__all__ = [
    "HOOKS",
    "STOP",
    "Around",
    "Call",
    "Child",
    "Connection",
    "CurrentStep",
    "Finished",
    "LeaveRun",
    "Lifespan",
    "Message",
    "Middleware",
    "Options",
    "Refused",
    "Restarted",
    "State",
    "Step",
    "Stop",
    "SyncChild",
    "SyncConnection",
    "SyncCurrentStep",
    "SyncTransaction",
    "Transaction",
    "Unloaded",
    "become",
    "bind",
    "check_definition",
    "current_step",
    "encode",
    "enter_step",
    "flaw_of",
    "from_input",
    "hooks_of",
    "inside_step",
    "is_async",
    "largest",
    "lifespan",
    "middleware",
    "migrated",
    "migrates",
    "rebuild",
]
