"""The models of docs/model/: what they assert holds in every run, and not without what it rests on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.model.spin import MODELS, search

pytestmark = pytest.mark.spin

BOUNDS = {
    "commit": ("CLAIMS=3", "TURNS=3", "FAILOVERS=2"),
    "commit, ending": ("ENDS", "CLAIMS=2", "TURNS=2", "FAILOVERS=2"),
    "sleep": ("CLAIMS=3", "MESSAGES=4", "FAILOVERS=2"),
    "resume": ("ENTRIES=3", "GRANTS=2", "BREAKS=1", "FAILOVERS=1"),
    "resume, twice": ("ENTRIES=2", "GRANTS=2", "BREAKS=1", "FAILOVERS=2"),
    "resume, trimmed": ("ENTRIES=2", "GRANTS=2", "BREAKS=2", "FAILOVERS=1", "TRIMS=1"),
    "messages": ("MESSAGES=2", "APPENDS=3", "ATTACHES=2", "FAILOVERS=1"),
    "messages, twice": ("MESSAGES=2", "APPENDS=3", "ATTACHES=2", "FAILOVERS=2"),
    "messages, one before": ("MESSAGES=3", "APPENDS=3", "ATTACHES=1", "FAILOVERS=1", "ONE_BEFORE"),
}
"""Each search, by the model and what is bounded otherwise."""

MUTATIONS = (
    ("commit", "NO_EPOCH_CHECK"),
    ("commit", "NO_NUMBER_CHECK"),
    ("commit", "NO_REPEATED"),
    ("commit", "REENCODED"),
    ("commit", "EPOCH_REUSED"),
    ("commit", "NO_OWNER_CHECK"),
    ("commit, ending", "END_UNDER_ITS_GRANT"),
    ("sleep", "NOT_ROUSED"),
    ("sleep", "IDLE_OVER_UNREAD"),
    ("sleep", "NUMBER_NOT_COMPARED"),
    ("sleep", "BY_PLACE_ALONE"),
    ("sleep", "RECEIVED_NOT_COMPARED"),
    ("sleep", "HIDDEN_BEHIND_THE_LAST"),
    ("resume", "BY_SEQ_ALONE"),
    ("resume", "NO_PREDECESSOR"),
    ("resume", "RESET_FORGOTTEN"),
    ("resume", "NO_RECHECK"),
    ("resume", "JOINED_ANYWHERE"),
    ("resume", "PENDING_KEPT"),
    ("resume", "EPOCH_REUSED"),
    ("resume, trimmed", "SPLIT_RESET"),
    ("messages", "NO_PLACE_CHECK"),
    ("messages", "NO_MID_CHECK"),
    ("messages", "NO_CONSUMED_CHECK"),
    ("messages", "PLACE_IS_THE_ID"),
    ("messages", "RESET_FORGOTTEN"),
    ("messages", "LATE_ANSWER_TRUSTED"),
    ("messages", "LATE_ATTACH_TRUSTED"),
    ("messages, one before", "GATE_OPEN"),
    ("messages, one before", "PLACE_KEPT"),
)
LIMITS = (("messages", "STRAYS"),)
"""What may go wrong all the same, so that the page that says it stays true."""


def model_of(bounded: str) -> str:
    return bounded.partition(",")[0]


MODELLED = sorted({model_of(bounded) for bounded in BOUNDS})


@pytest.mark.parametrize("model", MODELLED)
def test_it_holds_in_every_run(model: str, tmp_path: Path) -> None:
    """And no step is never taken: what no run comes to, within any of the bounds, is asserted of nothing."""
    page = (MODELS / "README.md").read_text()
    never: set[str] | None = None
    for bounded in (one for one in BOUNDS if model_of(one) == model):
        (room := tmp_path / bounded).mkdir()
        found = search(model, BOUNDS[bounded], room)
        print(f"{bounded}: {found.states} states")
        assert (found.errors, found.whole) == (0, True), found.said
        assert f"| {bounded} | {found.states:,} |" in page, f"the page has another number than {found.states:,}"
        never = set(found.unreached) if never is None else never & set(found.unreached)
    assert never == set()


@pytest.mark.parametrize(("bounded", "mutation"), MUTATIONS + LIMITS)
def test_it_does_not_without(bounded: str, mutation: str, tmp_path: Path) -> None:
    found = search(model_of(bounded), (*BOUNDS[bounded], mutation), tmp_path)
    assert (found.errors, found.violated.startswith("assertion violated (")) == (1, True), found.said


def test_every_mutation_is_tested_and_told_of() -> None:
    """All but the bounds: what a model can be told to do otherwise."""
    bounds = {one.partition("=")[0] for defines in BOUNDS.values() for one in defines}
    page = (MODELS / "README.md").read_text()
    for model in MODELLED:
        text = (MODELS / f"{model}.pml").read_text() + (MODELS / "common.pml").read_text()
        named = set(re.findall(r"^#(?:ifdef|ifndef) (\w+)", text, re.MULTILINE))
        named |= set(re.findall(r"defined\((\w+)\)", text))
        told = {mutation for bounded, mutation in MUTATIONS + LIMITS if model_of(bounded) == model}
        ours = {name for name in named if name not in bounds and name != "WIRE"}
        assert ours - {"EPOCH_REUSED"} <= told, model
        for name in told:
            assert re.search(rf"\| {model} \| `{name}` \|", page), f"{name} isn't in the table"
