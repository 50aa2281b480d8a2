"""The judging client's follower: what it sends again, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orbit.verify.client import WireClient
from orbit.verify.follower import Follower
from orbit.verify.trace import Message

TX = "transaction-under-test"


class ByHand(WireClient):
    """Says nothing to anybody; its timers fire when the test says so."""

    def __init__(self) -> None:
        super().__init__(["http://nowhere"])
        self.said: list[Message] = []
        self.timers: list[Callable[[], None]] = []

    def say(self, *messages: Message) -> None:
        self.said += messages

    def later(self, delay_s: float, do: Callable[[], None]) -> None:
        self.timers.append(do)

    def now(self) -> float:
        return 0.0

    def fire(self) -> None:
        timers, self.timers = self.timers, []
        for do in timers:
            do()


def attached() -> tuple[ByHand, Follower]:
    client = ByHand()
    follower = client.follow(TX, session="session-under-test")
    follower.attach_message()
    tell(follower, "attached", session="session-under-test", cursor="0", status="running", last_mid=0)
    return client, follower


def tell(follower: Follower, kind: str, **fields: Any) -> None:
    follower.on_message({"type": kind, "tx": TX, **fields})


def mids(client: ByHand) -> list[int]:
    return [message["mid"] for message in client.said if message["type"] == "send"]


def test_what_was_refused_is_sent_again_once_what_is_under_way_is_answered() -> None:
    """The second overtook the first, whose answer comes later than the time after which it is to be sent again."""
    client, follower = attached()
    follower.send("a")
    follower.send("b")
    tell(follower, "rejected", mid=2, code="out_of_order", message="", last_mid=0)
    client.fire()
    assert mids(client) == [1, 2]
    tell(follower, "receipt", mid=1, duplicate=False)
    assert mids(client) == [1, 2, 2]
    tell(follower, "receipt", mid=2, duplicate=False)
    assert follower.stored == {1: "a", 2: "b"}
    assert mids(client) == [1, 2, 2]


def test_nothing_is_sent_again_before_its_time() -> None:
    client, follower = attached()
    follower.send("a")
    tell(follower, "rejected", mid=1, code="overloaded", message="", retry_after_ms=1000)
    assert mids(client) == [1]
    client.fire()
    assert mids(client) == [1, 1]
