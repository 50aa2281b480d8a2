"""What goes into the store and what comes out: values, never raw replies.

Expected refusals are values here; what may be done or not is `OutcomeUnknown`, raised.
"""

from orbit.store.types.announcements import DueWake, OwnerNudge, ReadyWake
from orbit.store.types.care import CancelSet, DueAnswer, Limit, NotFailed, Outbox, Permit, Retried, ScheduleRow
from orbit.store.types.commits import (
    Commit,
    CommitAnswer,
    Done,
    Fenced,
    NewEnd,
    NewRefusal,
    NewUpdate,
    Released,
    Repeated,
    Rewound,
    Vanished,
)
from orbit.store.types.grants import Grant, Held, Loaded, Renewal, Snapshot, Spec
from orbit.store.types.inbox import (
    ChildEnd,
    FiredTimer,
    InboxEntry,
    InboxFull,
    Incoming,
    NewMessage,
    NotPlace,
    SessionChange,
    Stored,
    Work,
    WrongMid,
)
from orbit.store.types.listing import ListPage, StateRecord, Transaction, WorkerRecord
from orbit.store.types.refusals import Barred, Crowded, Missing, Over, Status
from orbit.store.types.sessions import AttachDone, Newer, Place, SessionRow
from orbit.store.types.settings import StoreSettings
from orbit.store.types.starts import Existed, NewTransaction, Outcome, Parent, Started, Taken

__all__ = [
    "AttachDone",
    "Barred",
    "CancelSet",
    "ChildEnd",
    "Commit",
    "CommitAnswer",
    "Crowded",
    "Done",
    "DueAnswer",
    "DueWake",
    "Existed",
    "Fenced",
    "FiredTimer",
    "Grant",
    "Held",
    "InboxEntry",
    "InboxFull",
    "Incoming",
    "Limit",
    "ListPage",
    "Loaded",
    "Missing",
    "NewEnd",
    "NewMessage",
    "NewRefusal",
    "NewTransaction",
    "NewUpdate",
    "Newer",
    "NotFailed",
    "NotPlace",
    "Outbox",
    "Outcome",
    "Over",
    "OwnerNudge",
    "Parent",
    "Permit",
    "Place",
    "ReadyWake",
    "Released",
    "Renewal",
    "Repeated",
    "Retried",
    "Rewound",
    "ScheduleRow",
    "SessionChange",
    "SessionRow",
    "Snapshot",
    "Spec",
    "Started",
    "StateRecord",
    "Status",
    "StoreSettings",
    "Stored",
    "Taken",
    "Transaction",
    "Vanished",
    "Work",
    "WorkerRecord",
    "WrongMid",
]
