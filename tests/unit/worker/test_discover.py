from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from orbit.errors import DefinitionError
from orbit.worker.discover import load_app, record_of, spec_of

GOOD = """
from orbit import State
class One(State, queue="slow", version=2, keep_updates=5):
    n: int
    async def run(self) -> None: ...
class Two(State, stays_open=True, name="second"):
    async def on_disconnect(self, connection) -> None: ...
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "app_of_test.py"


def test_a_file_a_module_and_one_state_of_it(app: Path) -> None:
    app.write_text(GOOD)
    names = [cls.__orbit__.name for cls in load_app(str(app)).states]
    assert names == ["One", "second"]
    assert [cls.__name__ for cls in load_app("app_of_test").states] == ["One", "Two"]
    assert [cls.__name__ for cls in load_app("app_of_test:second").states] == ["Two"]
    assert [cls.__name__ for cls in load_app(f"{app}:One").states] == ["One"]


def test_what_is_published(app: Path) -> None:
    app.write_text(GOOD)
    one, two = map(record_of, load_app(str(app)).states)
    assert (one.name, one.version, one.queue, one.keep_updates, one.connection_hooks) == ("One", 2, "slow", 5, False)
    assert json.loads(one.schema)["required"] == ["n"]
    assert two.connection_hooks
    assert spec_of(load_app(str(app)).states[0]).queue == "slow"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "holds no State"),
        ("import nowhere_to_be_found", "doesn't import: ModuleNotFoundError"),
        ("raise SystemExit('out')", "doesn't import: SystemExit: out"),
        ("x = (", "doesn't import: SyntaxError"),
        ("from orbit import State\nclass A(State): pass", "A: it has no run"),
        (
            "from orbit import State\nclass A(State, stays_open=True): pass\n"
            "class B(State, stays_open=True, name='A'): pass",
            "have the same name, A",
        ),
        (
            "from orbit import State\nfrom pydantic import field_validator\nclass A(State, stays_open=True):\n"
            "    n: int\n    @field_validator('n')\n    @classmethod\n    def more(cls, n): return n + 1",
            "A.n: doesn't round-trip",
        ),
    ],
)
def test_an_app_that_can_not_be_run_is_refused_in_one_line(app: Path, text: str, said: str) -> None:
    app.write_text(text)
    with pytest.raises(DefinitionError) as refused:
        load_app(str(app))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["nowhere.py", "nowhere", "nowhere.at.all", "app_of_test:Three"])
def test_an_app_that_is_not_there(app: Path, name: str) -> None:
    app.write_text(GOOD)
    with pytest.raises(DefinitionError, match=f"^{name}: "):
        load_app(name)
