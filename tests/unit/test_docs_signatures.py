"""The signatures that the docs show are those of the code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import orbit.asgi
from orbit import Client

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "name", "function"),
    [("configuration.md", "orbit.asgi.edge", orbit.asgi.edge), ("clients.md", "attach", Client.attach)],
    ids=["edge", "attach"],
)
def test_as_it_is(page: str, name: str, function: Callable[..., Any]) -> None:
    found = inspect.signature(function)
    bare = [one.replace(annotation=one.empty) for one in found.parameters.values() if one.name != "self"]
    shown = name + str(found.replace(parameters=bare, return_annotation=found.empty)).replace("'", '"')
    assert shown in " ".join((DOCS / page).read_text().split())
