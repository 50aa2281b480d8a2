"""Snapshots of a fleet that runs, read by today's code: whether it can take them over."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from orbit.state import State, flaw_of, from_input, migrated, migrates, rebuild
from orbit.testing.bench import app_of
from orbit.worker.actor import reasons


class SnapshotsUnreadable(AssertionError):
    """Today's States can't take over some of the snapshots; the text names them."""


def replay_snapshots(
    exported: str | Path | Iterable[str], *states: type[State] | ModuleType
) -> dict[tuple[str, int], int]:
    """Take over each snapshot that `orbit snapshots export` printed, with today's code and its `migrate`.

    Args:
        exported: A path, or its lines.

    Returns:
        How many were taken over, by State and version.

    Raises:
        SnapshotsUnreadable: A State that isn't among `states`, a version newer than the code's or that it doesn't
            migrate, a `migrate` that raises, fields that don't validate or don't come back from a snapshot.
    """
    known = {cls.__orbit__.name: cls for cls in app_of(states).states}
    lines = Path(exported).read_text().splitlines() if isinstance(exported, str | Path) else exported
    taken: Counter[tuple[str, int]] = Counter()
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        told = json.loads(line)
        fault = _fault(known.get(told["state"]), told["version"], told["fields"], first=told.get("first", False))
        if fault is None:
            taken[told["state"], told["version"]] += 1
        else:
            faults.append(f"line {number}: {told['state']} version {told['version']}: {fault}")
    if faults:
        more = f"\n... and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise SnapshotsUnreadable("snapshots that can't be taken over:\n" + "\n".join(faults[:20]) + more)
    return dict(taken)


def _fault(cls: type[State] | None, version: int, fields: object, *, first: bool) -> str | None:
    if cls is None:
        return "no such State any more"
    own = cls.__orbit__.version
    if version > own:
        return f"the code is of version {own}"
    if version < own and not migrates(cls):
        return f"the code is of version {own}, and has no migrate"
    written = json.dumps(fields).encode()
    try:
        state = migrated(cls, version, written) if version < own else (from_input if first else rebuild)(cls, written)
    except ValidationError as error:
        return reasons(error)
    except Exception as error:  # migrate's own, or a validator's
        return f"{type(error).__name__}: {error}"
    flaw = flaw_of(state)
    return None if flaw is None else f"{flaw[0]}: doesn't round-trip: {flaw[1]}"
