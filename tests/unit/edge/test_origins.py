"""Browsers' pages of other origins."""

from __future__ import annotations

import pytest

from orbit.edge.access.origins import SHOWN_CHARACTERS, WARNED, Origins
from orbit.errors import Forbidden

OTHERS = ("http://App.test:5000/", "https://app.test")


@pytest.mark.parametrize(
    ("origin", "in_"),
    [
        (None, True),
        ("http://edge.test:8000", True),
        ("https://EDGE.test:8000", True),
        ("http://app.test:5000", True),
        ("https://app.test", True),
        ("http://edge.test", False),
        ("http://app.test", False),
        ("http://localhost:8000", False),
        ("null", False),
    ],
)
def test_which_are_let_in(origin: str | None, in_: bool) -> None:
    assert Origins(OTHERS).let_in(origin, "edge.test:8000") is in_
    assert Origins(["*"]).let_in(origin, "edge.test:8000")


def test_each_that_is_not_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    origins = Origins(OTHERS)
    for _ in range(3):
        assert not origins.let_in("http://localhost:5000", "127.0.0.1:8000")
        with pytest.raises(Forbidden, match=r"http://127\.0\.0\.1:5000 .*--origin"):
            origins.demand("http://127.0.0.1:5000", "127.0.0.1:8000")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "--origin http://localhost:5000 " in caplog.messages[0]


def test_what_is_logged_has_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    origins = Origins()
    for number in range(2 * WARNED):
        assert not origins.let_in(f"http://{number}.test/{'x' * 1000}", "edge.test")
    assert len(caplog.records) == WARNED
    assert max(map(len, caplog.messages)) < 3 * SHOWN_CHARACTERS
