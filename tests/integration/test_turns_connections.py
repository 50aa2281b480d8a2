"""Connections: new ones and those that left, before messages, for one session alone, barred."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import Field

from orbit import Connection
from orbit.protocol.entries import UpdateEntry
from orbit.protocol.values import unpack
from orbit.store import types as t
from orbit.store.subscriber import Subscriber
from tests.integration.house import House, Tap
from tests.integration.probes import Probe, Probed
from tests.support.waiting import soon


class Watching(Probed):
    seen: list[list[Any]] = Field(default_factory=list)

    async def on_new_connection(self, connection: Connection) -> None:
        self.seen.append(["new", connection.session, connection.resumed, connection.subject])
        await connection.send("hello")

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.seen.append(["update", connection.session, data])

    async def on_disconnect(self, connection: Connection) -> None:
        self.seen.append(["gone", connection.session])
        Probed.probe.there.set()


def seen(stay: Any) -> list[list[Any]]:
    return stay.actor.state.seen  # type: ignore[no-any-return]


async def test_a_connection_is_told_before_its_message_and_once(house: House) -> None:
    tx = await house.start(Watching)
    me = await house.attach(tx, "me", "somebody")
    await house.send(tx, 1, me, "somebody")
    await house.send(tx, 2, me, "somebody")
    stay = await house.claim(Watching, tx)
    await stay.idle()
    assert seen(stay) == [["new", "me", False, "somebody"], ["update", "me", 1], ["update", "me", 2]]
    (entry,) = (entry for entry in await house.log(tx) if isinstance(entry, UpdateEntry))
    assert (entry.session, unpack(entry.data)) == ("me", "hello")


async def test_a_hop_to_another_edge_is_a_resumed_connection(house: House) -> None:
    tx = await house.start(Watching)
    me = await house.attach(tx, "me")
    await (await house.claim(Watching, tx)).idle()
    await house.attach(tx, "me")
    await house.send(tx, 1, me)
    stay = await house.claim(Watching, tx)
    await stay.idle()
    assert seen(stay) == [["new", "me", False, None], ["new", "me", True, None], ["update", "me", 1]]


async def test_a_disconnect_comes_once_after_the_grace(house: House, probe: Probe) -> None:
    house.linger_s = 0.2
    tx = await house.start(Watching)
    me = await house.attach(tx, "me")
    await (await house.claim(Watching, tx)).idle()  # told of it: a session that left before that leaves nothing to tell
    row = (await house.store.sessions(tx))[0][0]
    assert row.place is not None
    await house.store.detach(tx, me, row.place)
    stay = await house.claim(Watching, tx)  # due after the grace
    await probe.there.wait()
    await stay.idle()
    assert seen(stay) == [["new", "me", False, None], ["gone", "me"]]


async def test_a_message_of_a_session_that_left_comes_between_its_connect_and_disconnect(
    house: House, probe: Probe
) -> None:
    house.linger_s = 0.2
    tx = await house.start(Watching)
    place = t.Place("edge", "c", "1")
    me = await house.attach(tx, "me")
    await house.store.attach(tx, me, place, None)
    assert isinstance(await house.store.append(tx, t.NewMessage(b"\x01", me, 1, place)), t.Stored)
    await house.store.detach(tx, me, place)
    stay = await house.claim(Watching, tx)
    await probe.there.wait()
    await stay.idle()
    assert seen(stay) == [["new", "me", False, None], ["update", "me", 1], ["gone", "me"]]


@pytest.mark.parametrize("crash_before", [1, 2, 3])
async def test_the_next_worker_tells_of_the_connect_before_the_message(house: House, crash_before: int) -> None:
    """The worker is lost before one of its commits (of the connect, of the message, of the next message); meanwhile the
    client hops to another edge, and sends from there."""
    tx = await house.start(Watching)
    me = await house.attach(tx, "me")
    await house.send(tx, 1, me)
    tap = Tap(house.store)
    tap.crash_before = crash_before
    house.linger_s = 3600.0  # however late the next message comes
    lost = await house.claim(Watching, tx, tap)
    if crash_before == 3:
        await soon(lambda: len(tap.commits) == 2)
        await house.send(tx, 2, me)
    await tap.crashed.wait()
    await lost.kill()
    await house.attach(tx, "me")
    await house.send(tx, 3, me)
    house.linger_s = 0.05
    stay = await house.claim(Watching, tx)
    await stay.idle()
    sent = [1, 2, 3] if crash_before == 3 else [1, 3]
    what = [one[0] if one[0] != "update" else one[2] for one in seen(stay)]
    assert [one for one in what if one != "new"] == sent, "each once, in order"
    assert what.count("new") == (1 if crash_before == 1 else 2)
    assert what[0] == "new"
    assert "new" not in what[what.index(3) :], "it knew of the hop when it handled what came after it"


class Barring(Probed):
    async def on_new_connection(self, connection: Connection) -> None:
        if connection.session == "bad":
            connection.reject("not you")

    async def on_update(self, connection: Connection, data: Any) -> None:
        await self.transaction.send_update([connection.session, data])


async def test_a_barred_session_is_refused_until_the_end(house: House) -> None:
    tx = await house.start(Barring)
    bad, good = await house.attach(tx, "bad"), await house.attach(tx, "good")
    place = (await house.store.sessions(tx))[0]
    places = {row.session: row.place for row in place}
    for session in (bad, good):
        assert isinstance(await house.store.append(tx, t.NewMessage(b"\x01", session, 1, places[session])), t.Stored)
    await (await house.claim(Barring, tx)).idle()
    assert await house.updates(tx) == [["good", 1]]
    assert await house.refusals(tx) == [("bad", 1, "forbidden")]
    assert await house.store.append(tx, t.NewMessage(b"\x01", bad, 2)) == t.Barred("not you")
    assert await house.store.attach(tx, bad, t.Place("edge", "x", "y"), None) == t.Barred("not you")


async def test_the_edge_of_a_barred_session_is_told_at_once(house: House) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    subscriber = Subscriber(house.store, on_edge=heard.put_nowait)
    running = asyncio.create_task(subscriber.run())
    try:
        await subscriber.follow_edge("edge")
        tx = await house.start(Barring)
        bad = await house.attach(tx, "bad")
        await house.store.attach(tx, bad, t.Place("edge", "c7", "a3"), None)
        await (await house.claim(Barring, tx)).idle()
        told = unpack(await heard.get())
        assert told == {"t": "barred", "tx": tx, "c": "c7", "a": "a3", "m": "not you"}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class FailingHooks(Probed):
    n: int = 0

    async def on_new_connection(self, connection: Connection) -> None:
        self.n += 1
        raise ValueError


async def test_a_connection_hook_that_fails_counts_as_told(house: House) -> None:
    tx = await house.start(FailingHooks)
    await house.attach(tx, "me")
    stay = await house.claim(FailingHooks, tx)
    await stay.idle()
    assert [commit.told for commit in stay.tap.commits] == [(("me", stay.tap.commits[0].told[0][1]),)]
    assert stay.actor.history.committed == b'{"n":0}'
    assert (await house.store.get(tx)).status == "idle"  # type: ignore[union-attr]


class Greeting(Probed):
    async def on_update(self, connection: Connection, data: Any) -> None:
        async for other in self.transaction.connections:
            await other.send(f"to {other.session}")
        await connection.send("to nobody")


async def test_connections_are_those_that_are_attached(house: House) -> None:
    tx = await house.start(Greeting)
    for n in range(150):
        await house.attach(tx, f"s{n:03}")
    await house.send(tx, 1)
    await (await house.claim(Greeting, tx)).idle()
    sent = {(entry.session, unpack(entry.data)) for entry in await house.log(tx) if isinstance(entry, UpdateEntry)}
    assert sent == {(f"s{n:03}", f"to s{n:03}") for n in range(150)}


class Viewed(Probed, keep_updates=8):
    n: int = 0

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.n += 1
        await self.transaction.send_update(self.n)

    def view(self) -> dict[str, int]:
        Probed.probe.seen.append(self.n)
        return {"n": self.n}


async def test_view_is_called_seldom_and_is_as_of_its_commit(house: House, probe: Probe) -> None:
    tx = await house.start(Viewed)
    for n in range(40):
        await house.send(tx, n)
    stay = await house.claim(Viewed, tx)
    await stay.idle()
    assert probe.seen == list(range(2, 41, 2))
    viewed = [(unpack(c.view), c.number + 1) for c in stay.tap.commits if c.view is not None]
    assert all(view == {"n": number} for view, number in viewed)


class Unseen(Probed):
    """Neither on_update nor connection hooks: messages stay in the inbox, and are no reason to stay awake."""

    async def run(self) -> None:
        await asyncio.sleep(0)


async def test_messages_that_nobody_handles_stay_until_the_end(house: House) -> None:
    tx = await house.start(Unseen)
    me = await house.attach(tx, "me")
    await house.send(tx, 1, me)
    await (await house.claim(Unseen, tx)).idle()
    assert (await house.store.get(tx)).status == "idle"  # type: ignore[union-attr]
    await house.store.cancel(tx, "over")
    if (await house.store.get(tx)).status != "cancelled":  # type: ignore[union-attr]
        await (await house.claim(Unseen, tx)).leaving()
    assert await house.refusals(tx) == [("me", 1, "ended")]
