"""The bookkeeping of subscriptions: who waits is told by the reply to the last request, not by that to an older one."""

from __future__ import annotations

import asyncio

from orbit.store.subscriptions import Subscriptions


class Scene:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.wanted = Subscriptions(self.told.append)
        self.got: list[bytes] = []

    def add(self, name: str = "a") -> asyncio.Future[None]:
        return self.wanted.add(name, self.got.append)


async def test_a_channel_is_confirmed_by_its_reply() -> None:
    scene = Scene()
    waiting = scene.add()
    assert not scene.wanted.all_confirmed
    assert scene.wanted.to_send() == (("a",), ())
    assert scene.wanted.to_send() == ((), ())
    assert not waiting.done()
    scene.wanted.confirmed("a")
    assert waiting.done()
    assert scene.wanted.all_confirmed
    assert scene.add().done(), "it is confirmed already"
    scene.wanted.deliver("a", b"x")
    scene.wanted.deliver("b", b"y")
    assert scene.got == [b"x"]


async def test_dropped_before_it_was_sent() -> None:
    scene = Scene()
    waiting = scene.add()
    scene.wanted.drop("a")
    assert waiting.done()
    assert scene.wanted.all_confirmed
    assert scene.wanted.to_send() == ((), ())


async def test_wanted_again_before_the_leaving_was_sent() -> None:
    scene = Scene()
    scene.add()
    scene.wanted.to_send()
    scene.wanted.confirmed("a")
    scene.wanted.drop("a")
    assert scene.add().done(), "it was never left"
    assert scene.wanted.to_send() == ((), ())


async def test_wanted_again_while_the_leaving_is_under_way() -> None:
    scene = Scene()
    first = scene.add()
    scene.wanted.to_send()
    scene.wanted.drop("a")
    assert scene.wanted.to_send() == ((), ("a",))
    second = scene.add()
    assert scene.wanted.to_send() == (("a",), ())
    assert first.done()
    scene.wanted.confirmed("a")
    assert not second.done(), "that was the reply to the first request, and a leaving came after it"
    assert scene.wanted.released("a")
    assert not second.done()
    scene.wanted.confirmed("a")
    assert second.done()


async def test_confirmed_late_while_wanted_again_and_not_sent() -> None:
    scene = Scene()
    scene.add()
    scene.wanted.to_send()
    scene.wanted.drop("a")
    scene.wanted.to_send()
    second = scene.add()
    scene.wanted.confirmed("a")
    assert not second.done()


async def test_dropped_for_good() -> None:
    scene = Scene()
    scene.add()
    scene.wanted.to_send()
    scene.wanted.drop("a")
    scene.wanted.drop("a")
    scene.wanted.drop("never there")
    scene.wanted.to_send()
    scene.wanted.confirmed("a")
    assert scene.wanted.released("a")
    scene.wanted.deliver("a", b"late")
    assert scene.got == []
    assert not scene.wanted.released("a"), "nobody asked for another one"
    scene.wanted.confirmed("a")
    assert scene.wanted.all_confirmed


async def test_the_server_s_own_leaving_is_told() -> None:
    scene = Scene()
    scene.add()
    scene.wanted.to_send()
    scene.wanted.confirmed("a")
    assert not scene.wanted.released("a")


async def test_what_the_server_has_no_more_is_forgotten() -> None:
    scene = Scene()
    waiting = scene.add("moved")
    scene.add("kept")
    scene.wanted.to_send()
    scene.wanted.forget("moved")
    scene.wanted.forget("never there")
    scene.wanted.confirmed("moved")
    assert scene.wanted.names() == ("kept",)
    assert not waiting.done(), "that is for another connection to say"
    scene.wanted.confirmed("kept")
    assert scene.wanted.all_confirmed
    scene.add("moved")
    assert scene.wanted.to_send() == (("moved",), ())
    scene.wanted.confirmed("moved")
    assert scene.told == ["kept", "moved"]


async def test_what_is_confirmed_already_is_told_at_once() -> None:
    scene = Scene()
    scene.add()
    scene.wanted.to_send()
    scene.wanted.confirmed("a")
    scene.wanted.drop("a")
    scene.add()
    assert scene.told == ["a", "a"]


async def test_who_stops_waiting_disturbs_nobody() -> None:
    scene = Scene()
    gone, stays = scene.add(), scene.add()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    scene.wanted.to_send()
    scene.wanted.confirmed("a")
    assert stays.done()
    assert not stays.cancelled()
