"""Each bug that is planted on purpose is found by the simulation, within the seeds that stand beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.mutations import MUTATIONS, Code, Lua, Mutation, planted
from tests.simulation.scenario import run_seed

pytestmark = pytest.mark.simulation


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_is_found(mutation: Mutation) -> None:
    with planted(mutation):
        for seed in range(mutation.within):
            try:
                if run_seed(seed, mutation.faults).found:
                    return
            except Exception:  # the bug made the run itself impossible
                return
    pytest.fail(f"not found within {mutation.within} seeds: {mutation.what}")


@pytest.mark.parametrize("edit", [Lua("commit", "no such text"), Code("orbit.edge.hub:Hub.join", "no such text", "")])
def test_an_edit_that_no_longer_applies_is_an_error(edit: Lua | Code) -> None:
    with pytest.raises(ValueError, match="no such text"), planted(Mutation("a test's", "", (edit,))):
        raise AssertionError


def test_what_was_planted_is_gone_afterwards() -> None:
    from orbit.store import script

    before = script.COMMIT
    with planted(MUTATIONS[0]):
        assert before != script.COMMIT
    assert script.COMMIT is before


def test_the_page_names_each_with_the_seeds_that_it_needs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()
    missing = [mutation.name for mutation in MUTATIONS if row(mutation) not in page]
    assert not missing, "\n".join(row(mutation) for mutation in MUTATIONS)


def row(mutation: Mutation) -> str:
    """Its line in the table of docs/simulation.md."""
    faults = ", ".join(mutation.faults).replace("_", " ") or "as drawn"
    return f"| {mutation.name} | {mutation.what} | {mutation.within} | {faults} |"
