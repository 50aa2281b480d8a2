"""Judges logs: what several sessions of one transaction read must be one log, and what a State says it handled must be
what was confirmed to its clients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from orbit.verify.trace import Finding, LogEntry, epoch_of, seq_of


def check_complete(name: str, entries: Sequence[LogEntry], log: Sequence[LogEntry]) -> list[Finding]:
    """What a client that followed from the start to the end must hold: the whole log."""
    if list(entries) == list(log):
        return []
    at = next((at for at, (a, b) in enumerate(zip(entries, log, strict=False)) if a != b), min(len(entries), len(log)))
    text = f"holds {len(entries)} entries of {len(log)}; the first difference is at {at}: {log[at : at + 2]}"
    return [Finding(text, name)]


def check_logs(logs: Mapping[str, Sequence[LogEntry]]) -> list[Finding]:
    """What is wrong between the logs of one transaction, as several sessions read them from the start.

    Together they must be dense from 1; an entry is in the log of one session alone, or the same in all.
    """
    found: list[Finding] = []
    entries: dict[str, LogEntry] = {}
    readers: Counter[str] = Counter()
    for session, log in logs.items():
        seqs = [seq_of(entry.cursor) for entry in log]
        if any(later <= earlier for earlier, later in pairwise(seqs)):
            found.append(Finding("the log isn't in order", session))
        for entry in log:
            readers[entry.cursor] += 1
            if entries.setdefault(entry.cursor, entry) != entry:
                text = f"{entry.cursor} is {entry} here, and {entries[entry.cursor]} to another"
                found.append(Finding(text, session))
    found += [
        Finding(f"{cursor} was shown to {count} of {len(logs)} sessions: {entries[cursor]}")
        for cursor, count in readers.items()
        if count not in (1, len(logs))
    ]
    seqs = sorted(seq_of(cursor) for cursor in entries)
    if seqs != list(range(1, len(seqs) + 1)):
        missing = sorted(set(range(1, max(seqs) + 1)) - set(seqs))
        doubled = [seq for seq, count in Counter(seqs).items() if count > 1]
        found.append(Finding(f"the log isn't dense: missing {missing}, doubled {doubled}"))
    return [*found, *_check_writers(sorted(entries, key=seq_of))]


def _check_writers(cursors: Sequence[str]) -> list[Finding]:
    """Grants follow one another: what an older one wrote after a newer one is a second writer's."""
    return [
        Finding(f"two writers: {later} stands after {earlier}, which a newer grant wrote")
        for earlier, later in pairwise(cursors)
        if epoch_of(later) < epoch_of(earlier)
    ]


def check_messages(
    name: str,
    stored: Iterable[int],
    handled: Sequence[int],
    refused: Mapping[int, str],
    must_refuse: Callable[[int], str | None] = lambda mid: None,
) -> list[Finding]:
    """What is wrong with the fate of one session's messages.

    Args:
        stored: The mids that were confirmed as stored.
        handled: The mids that the State says it handled, in its order.
        refused: The mids with a `rejected` in the log, and the codes.
        must_refuse: The code with which the State refuses a mid on purpose, None for those it must handle.
    """
    confirmed, done = set(stored), Counter(handled)
    found = [Finding(f"mid {mid} was handled {count} times", name) for mid, count in done.items() if count > 1]
    if list(handled) != sorted(handled):
        found.append(Finding(f"handled out of order: {list(handled)}", name))
    found += [Finding(f"mid {mid} was handled and refused", name) for mid in sorted(done.keys() & refused.keys())]
    found += [Finding(f"mid {mid} was lost", name) for mid in sorted(confirmed - done.keys() - refused.keys())]
    for mid in sorted(confirmed | done.keys() | refused.keys()):
        expected, code = must_refuse(mid), refused.get(mid)
        if code != expected and not (expected is not None and mid not in confirmed and code is None):
            found.append(Finding(f"mid {mid} was answered with {code}, and the State meant {expected}", name))
    return found
