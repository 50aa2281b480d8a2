"""The verdict on a run: what clients saw, against the logs, and the logs against what their States say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from orbit.protocol.cursors import START
from orbit.protocol.entries import EndEntry, Entry, LogPage, LogReset, RefusalEntry, UpdateEntry
from orbit.protocol.ids import Session, TxId
from orbit.protocol.values import unpack
from orbit.store.store import Store
from orbit.store.types import Missing
from orbit.verify.conversation import check_trace
from orbit.verify.follower import Follower
from orbit.verify.trace import Finding, LogEntry, Trace, seq_of
from tests.simulation.states import acknowledged

if TYPE_CHECKING:
    from tests.simulation.scenario import Cast

LOST = frozenset({"not_found", "gone"})


async def judge(cast: Cast, store: Store) -> None:
    """Put all that is wrong among the world's findings."""
    world = cast.world
    rewound = world.server.happened["failover"] > 0
    logs: dict[str, list[Entry] | None] = {tx: await read_log(store, TxId(tx)) for tx in cast.ids}
    for client in cast.clients:
        if world.durability.waits:
            world.found += _unkept_mids(client.trace)
        own = {
            tx: as_seen(store, log, follower)
            for tx, follower in client.followers.items()
            if (log := logs[tx]) is not None and whole(log)
        }
        kept = {tx: {str(entry.cursor) for entry in logs[tx] or ()} | {"0"} for tx in own}
        trimmed = any(not whole(log or []) for log in logs.values())
        resets = [reason for reason, may_be in (("rewound", rewound), ("trimmed", trimmed)) if may_be]
        seen = check_trace(client.trace, own, resets=resets, kept=kept)
        world.found += [str(one) for one in seen if not _needed(one, world.server.lost)]
    for tx, log in logs.items():
        followers = [f for f in cast.followers if f.tx == tx]
        if log is None:
            world.found += _lost(tx, followers, rewound=rewound and not world.durability.waits)
            continue
        world.found += [f"{tx}: {what}" for what in one_history(log)]
        if whole(log) and (not rewound or world.durability.waits):
            world.found += [f"{tx}: {what}" for what in _unkept(log, acknowledged.get(tx, ()))]
        for follower in followers:
            world.found += _complete(store, log, follower)
            world.found += _fates(cast, store, log, follower)


async def read_log(store: Store, tx: TxId) -> list[Entry] | None:
    """All that is kept of a log; None where there is no such transaction."""
    entries: list[Entry] = []
    after = START
    while True:
        page = await store.read_log(tx, after, 1000)
        match page:
            case Missing():
                return None
            case LogReset():
                after = page.cursor
                if page.view is not None:
                    after = await _oldest(store, tx)
            case LogPage():
                entries += page.entries
                if not page.more:
                    return entries
                after = entries[-1].cursor


async def _oldest(store: Store, tx: TxId) -> Any:
    from orbit.store import decode

    return decode.cursor(await store.link.read("HGET", store.keys.transaction(tx), "trimmed"))


def whole(log: list[Entry]) -> bool:
    """Whether nothing of it was trimmed."""
    return not log or log[0].cursor.seq == 1


def as_seen(store: Store, log: list[Entry], follower: Follower) -> list[LogEntry]:
    """The log as one session sees it."""
    own = store.public_name(TxId(follower.tx), Session(follower.session or ""))
    seen = []
    for entry in log:
        match entry:
            case UpdateEntry() if entry.session in (None, own):
                seen.append(LogEntry(str(entry.cursor), "update", unpack(entry.data)))
            case RefusalEntry() if entry.session == own:
                seen.append(LogEntry(str(entry.cursor), "rejected", (entry.mid, entry.code)))
            case EndEntry():
                seen.append(LogEntry(str(entry.cursor), "end", entry.status))
    return seen


def _needed(found: Finding, lost: set[tuple[str, str]]) -> bool:
    """Whether a reset that looks needless told of an entry that was lost, and was written again since."""
    match = re.search(r"a needless reset: .* up to ([0-9-]+);", found.what)
    return match is not None and (found.tx, match[1]) in lost


def _unkept(log: list[Entry], marks: Iterable[str]) -> list[str]:
    """What was acknowledged to the State and isn't there."""
    kept = {unpack(entry.data).get("mark") for entry in log if isinstance(entry, UpdateEntry)}
    return [f"{mark} was acknowledged, and is lost" for mark in marks if mark not in kept]


def _unkept_mids(trace: Trace) -> list[str]:
    """Where acknowledgements wait, no message is ever told to be stored and later not to be."""
    found, told = [], dict[str, int]()
    for event in trace.events:
        message, tx = event.message, event.message.get("tx", "")
        mid = message.get("last_mid") if message.get("type") in ("attached", "reset") else None
        if event.what == "got" and message["type"] == "receipt":
            told[tx] = max(told.get(tx, 0), message["mid"])
        elif event.what == "got" and mid is not None:
            if mid < told.get(tx, 0):
                found.append(f"{trace.name} in {tx} at {event.at:.3f}: mid {told[tx]} was acknowledged, and is lost")
            told[tx] = mid
    return found


def _lost(tx: str, followers: list[Follower], *, rewound: bool) -> list[str]:
    if not rewound:
        return [f"{tx} is lost, and Redis lost nothing that was acknowledged"]
    return [f"{tx} is lost, and {f.client.trace.name} was told {f.gave_up}" for f in followers if f.gave_up not in LOST]


def one_history(log: list[Entry]) -> list[str]:
    """What is wrong with a log in itself: it is dense, no epoch comes back, and the States' own counts go on by one."""
    found = []
    seqs = [entry.cursor.seq for entry in log]
    if seqs != list(range(seqs[0], seqs[0] + len(seqs)) if seqs else []):
        found.append(f"the log isn't dense: {seqs}")
    epochs = [epoch for epoch, _ in groupby(entry.cursor.epoch for entry in log)]
    if epochs != sorted(set(epochs)):
        found.append(f"two writers at once: {epochs}")
    counts = [unpack(entry.data)["n"] for entry in log if isinstance(entry, UpdateEntry)]
    if any(later != before + 1 for before, later in pairwise(counts)):
        found.append(f"the updates don't follow from one another: {counts}")
    ends = [entry for entry in log if isinstance(entry, EndEntry)]
    if len(ends) != 1 or log[-1] is not ends[0]:
        found.append(f"it ends so: {ends}")
    elif ends[0].status != "finished":
        found.append(f"it ended {ends[0]}")
    handled = _handled(log)
    if twice := [tag for tag, count in Counter(handled).items() if count > 1]:
        found.append(f"handled twice: {twice}")
    if ends and ends[0].result is not None and whole(log):
        told = [tag for tag in unpack(ends[0].result) if tag in set(handled)]
        if told != handled:
            found.append(f"the fields say {told}, the updates {handled}")
    return found


def _handled(log: list[Entry]) -> list[str]:
    """The tags of the messages that the log says were handled."""
    return [data["tag"] for entry in log if isinstance(entry, UpdateEntry) and "tag" in (data := unpack(entry.data))]


def _complete(store: Store, log: list[Entry], follower: Follower) -> list[str]:
    """Who followed to the end holds all of it, from its last reset on."""
    name = f"{follower.client.trace.name} in {follower.tx}"
    if follower.gave_up is not None:
        return [f"{name} gave up: {follower.gave_up}"]
    seen = as_seen(store, log, follower)
    since = seq_of(follower.resets[-1]["cursor"]) if follower.resets else 0
    expected = [entry for entry in seen if seq_of(entry.cursor) > since]
    held = [entry for entry in follower.entries if seq_of(entry.cursor) >= log[0].cursor.seq]
    if held != expected:
        return [f"{name} holds {_short(held)} of {_short(expected)}, after {follower.resets[-1:]}"]
    return []


def _short(entries: list[LogEntry]) -> list[str]:
    return [entry.cursor.replace("-1900000", "-") for entry in entries]


def _fates(cast: Cast, store: Store, log: list[Entry], follower: Follower) -> list[str]:
    """What was confirmed to a session was handled once, in order, or refused."""
    from tests.simulation.scenario import REFUSED

    name = f"{follower.client.trace.name} in {follower.tx}"
    if not whole(log):
        end = log[-1]
        handled = unpack(end.result) if isinstance(end, EndEntry) and end.result is not None else []
    else:
        handled = _handled(log)
    own = [tag for tag in handled if tag.startswith(f"{follower.client.trace.name}/")]
    refusals = {body[0]: body[1] for _, kind, body in map(astuple, as_seen(store, log, follower)) if kind == "rejected"}
    found = []
    numbers = [int(tag.partition("/")[2]) for tag in own]
    if numbers != sorted(numbers):
        found.append(f"{name}: handled out of order: {own}")
    for mid, data in follower.stored.items():
        tag, expected = data["tag"], REFUSED.get(data["do"])
        refused = refusals.get(mid)
        if expected is None and refused is None and tag not in own:
            found.append(f"{name}: {tag} (mid {mid}) was lost")
        elif expected is not None and refused != expected and follower.end is not None and whole(log):
            found.append(f"{name}: {tag} (mid {mid}) was answered with {refused}, and the State meant {expected}")
        elif refused is not None and tag in own:
            found.append(f"{name}: {tag} (mid {mid}) was handled and refused")
    return found
