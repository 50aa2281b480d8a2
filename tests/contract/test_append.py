from __future__ import annotations

from dataclasses import replace

import pytest

from orbit.store import types as t
from orbit.store.types import StoreSettings
from tests.contract.house import ANN, BOB, Heard, House, place

covers = pytest.mark.covers
ONE = t.NewMessage(b"data", ANN, 1)


@pytest.fixture
def settings(settings: StoreSettings) -> StoreSettings:
    return replace(settings, inbox_messages=2)


@covers("append", "missing")
async def test_no_transaction(house: House) -> None:
    assert await house.refused(house.store.append(house.new().tx, ONE)) == t.Missing()


@covers("append", "over")
async def test_an_ended_one_takes_nothing(house: House) -> None:
    grant = await house.run()
    await house.end(grant)
    assert await house.refused(house.store.append(grant.tx, ONE)) == t.Over("finished")


@covers("append", "barred")
async def test_a_barred_session(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.commit(grant, barred=((ANN, "not you"),))
    assert await house.refused(house.store.append(grant.tx, replace(ONE, place=place()))) == t.Barred("not you")


@covers("append", "not the place")
async def test_only_the_session_s_place_sends(house: House) -> None:
    tx = await house.begin()
    assert await house.refused(house.store.append(tx, replace(ONE, place=place()))) == t.NotPlace()
    await house.attach(tx, at=place("e2"))
    assert await house.refused(house.store.append(tx, replace(ONE, place=place()))) == t.NotPlace()
    await house.send(tx, 1, place=place("e2"))


@covers("append", "subject")
async def test_a_session_of_another_subject(house: House) -> None:
    tx = await house.begin()
    await house.send(tx, 1, subject="ann")
    for other in ("bob", None):
        assert await house.refused(house.store.append(tx, replace(ONE, mid=2, subject=other))) == t.NotPlace()
    await house.send(tx, 2, subject="ann")


@covers("append", "stored", "detached session")
async def test_a_message_is_stored_with_what_is_known_of_its_sender(house: House) -> None:
    grant = await house.run()
    await house.store.attach(grant.tx, ANN, place(), "ann")
    await house.send(grant.tx, 1, place=place())
    await house.send(grant.tx, 1, BOB)
    first, second = (await house.work(grant.tx)).incoming
    assert (first.session, first.mid, first.subject, first.place, first.data) == (ANN, 1, "ann", "e1/c1/1", b"data")
    assert (second.session, second.mid, second.subject, second.place) == (BOB, 1, None, "")


async def test_a_message_without_a_session(house: House) -> None:
    grant = await house.run()
    assert await house.store.append(grant.tx, t.NewMessage(bytes(range(256)), subject="ann")) == t.Stored(False, 0)
    (message,) = (await house.work(grant.tx)).incoming
    assert (message.session, message.mid, message.subject, message.data) == (None, None, "ann", bytes(range(256)))


@covers("append", "duplicate mid")
async def test_a_mid_is_stored_once_whatever_its_content(house: House) -> None:
    tx = await house.begin()
    await house.send(tx, 1)
    await house.send(tx, 2)
    for mid in (1, 2):
        again = t.NewMessage(b"other", ANN, mid)
        assert await house.refused(house.store.append(tx, again)) == t.Stored(True, 2)


@covers("append", "wrong mid")
async def test_a_mid_without_its_predecessor(house: House) -> None:
    tx = await house.begin()
    assert await house.refused(house.store.append(tx, replace(ONE, mid=2))) == t.WrongMid(0)
    await house.send(tx, 1)
    assert await house.refused(house.store.append(tx, replace(ONE, mid=3))) == t.WrongMid(1)


@covers("append", "full")
async def test_a_full_inbox(house: House) -> None:
    tx = await house.begin()
    await house.send(tx, 1)
    await house.send(tx, 2)
    assert await house.refused(house.store.append(tx, replace(ONE, mid=3))) == t.InboxFull(2)
    assert await house.refused(house.store.append(tx, t.NewMessage(b"data"))) == t.InboxFull(0)
    assert await house.refused(house.store.append(tx, replace(ONE, mid=2))) == t.Stored(True, 2)


@covers("append", "keyed", "duplicate key")
async def test_a_keyed_message_is_stored_once(house: House) -> None:
    tx = await house.begin()
    message = t.NewMessage(b"data", key="key")
    assert await house.store.append(tx, message) == t.Stored(False, 0)
    assert await house.refused(house.store.append(tx, message)) == t.Stored(True, 0)
    assert await house.store.append(tx, replace(message, key="other")) == t.Stored(False, 0)


async def test_a_key_is_forgotten_after_a_day(house: House) -> None:
    tx = await house.begin()
    await house.store.append(tx, t.NewMessage(b"data", key="key"))
    await house.forget_times(tx, ":keys")
    assert await house.store.append(tx, t.NewMessage(b"data", key="other")) == t.Stored(False, 0)
    assert await house.redis.zrange(house.store.keys.transaction(tx) + ":keys", 0, -1) == [b"other"]


async def test_a_message_is_announced(house: House) -> None:
    grant = await house.run()
    heard = await Heard.of(house)
    await house.send(grant.tx, 1)
    assert await heard.since() == [t.OwnerNudge(grant.tx, "message")]
    (message,) = (await house.work(grant.tx)).incoming
    await house.commit(grant, consumed=(message.id,))
    await house.store.release(grant.tx, grant.epoch, 1, message.id, idle=True)
    await heard.since()
    await house.send(grant.tx, 2)
    assert await heard.since() == [t.ReadyWake(house.store.partition_of(grant.tx), grant.spec)]
    await heard.close()
    assert await house.status(grant.tx) == "pending"
