"""Random histories: workers that crash, resend and come back late, Redis that loses its newest writes. What must hold:

- a cursor names one history: what stands in the log up to it is the same whenever it stands there;
- a client that follows by cursor has every entry of the log once and in order, or is told with a reset;
- each message is handled once in the history that stands, in mid order;
- nothing is ever stuck: when the storm is over, everything that was sent is handled.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from orbit.protocol.cursors import START, Cursor
from orbit.protocol.entries import Entry, LogPage, LogReset, UpdateEntry
from orbit.protocol.ids import InboxId, TxId
from orbit.store import types as t
from tests.contract.house import ANN, House

STEPS = 250
WORKERS = ("w1", "w2")


@dataclass
class Client:
    """Follows the log by its cursor, as an edge does for it. `last_mid` is what it was told to be stored."""

    after: Cursor = START
    seen: list[Entry] = field(default_factory=list)
    resets: int = 0

    async def follow(self, house: House, tx: TxId) -> None:
        answer = await house.store.read_log(tx, self.after, 3)
        if isinstance(answer, LogReset):
            assert answer.cursor != self.after or not self.seen
            self.after, self.seen = answer.cursor, []
            self.resets += 1
        else:
            assert isinstance(answer, LogPage)
            self.seen.extend(answer.entries)
            self.after = self.seen[-1].cursor if self.seen else self.after
            assert [one.cursor.seq for one in self.seen] == list(
                range(self.seen[0].cursor.seq if self.seen else 0, self.after.seq + 1 if self.seen else 0)
            )


@dataclass
class Actor:
    """A worker's view of the transaction; it may be long out of date. `under_way`: sent, and its outcome unknown."""

    grant: t.Grant
    number: int
    fields: int
    last: InboxId | None = None
    unread: list[t.InboxEntry] = field(default_factory=list)
    under_way: t.Commit | None = None


class Storm:
    """One transaction, two workers, one client that sends; the State's fields are the last mid that it handled."""

    def __init__(self, house: House, tx: TxId, rng: random.Random) -> None:
        self.house, self.tx, self.rng = house, tx, rng
        self.actors: dict[str, Actor] = {}
        self.client = Client()
        self.known: dict[Cursor, tuple[Cursor, bytes]] = {}
        self.count = 0

    async def happen(self, weights: dict[str, int]) -> None:
        (name,) = self.rng.choices(list(weights), list(weights.values()))
        happens: Callable[[], Awaitable[None]] = getattr(self, name)
        await happens()

    # what may happen

    async def send(self) -> None:
        attached = await self.house.store.attach(self.tx, ANN, t.Place("e", "c", "1"), None)
        assert isinstance(attached, t.AttachDone)
        mid = attached.last_mid + 1
        await self.house.store.append(self.tx, t.NewMessage(b"%d" % mid, ANN, mid))

    async def claim(self) -> None:
        worker = self.rng.choice(WORKERS)
        for grant in await self.house.claim(self.tx, worker):
            loaded = await self.house.store.load(self.tx, grant.epoch)
            assert isinstance(loaded, t.Loaded)
            self.actors[worker] = Actor(grant, loaded.number, int(loaded.snapshot.fields))

    async def turn(self) -> None:
        """A turn: the next message, if there is one, else an update of its own. Its reply is lost at times."""
        worker, actor = self.pick()
        if actor is None:
            return
        commit = actor.under_way or self.next_commit(actor)
        lost = self.rng.random() < 0.3
        answer = await self.house.store.commit(commit)
        if lost:
            actor.under_way = commit
            return
        actor.under_way = None
        if isinstance(answer, t.Done | t.Repeated):
            actor.number = answer.number
            if commit.snapshot is not None:
                actor.fields = int(commit.snapshot)
                actor.unread = [one for one in actor.unread if one.id not in commit.consumed]
            return
        del self.actors[worker]
        await self.house.store.release(self.tx, actor.grant.epoch, actor.number, actor.last, idle=False)

    async def read(self) -> None:
        _, actor = self.pick()
        if actor is not None and not actor.under_way:
            work = await self.house.work(self.tx, actor.last, 2)
            if work.epoch == actor.grant.epoch:
                actor.unread.extend(work.incoming)
                actor.last = actor.unread[-1].id if actor.unread else actor.last

    def next_commit(self, actor: Actor) -> t.Commit:
        self.count += 1
        if not actor.unread:
            entries = (t.NewUpdate(b"update %d" % self.count),)
            return t.Commit(self.tx, actor.grant.epoch, actor.number, entries, lease_ms=60_000)
        message = actor.unread[0]
        entries = (t.NewUpdate(b"handled %s, %d" % (message.data, self.count)),)
        return t.Commit(
            self.tx, actor.grant.epoch, actor.number, entries, snapshot=message.data, consumed=(message.id,), view=b"v"
        )

    async def renew(self) -> None:
        worker, actor = self.pick()
        if actor is not None and not actor.under_way:
            held = t.Held(self.tx, actor.grant.epoch, actor.number)
            renewal = await self.house.store.renew(self.house.store.partition_of(self.tx), worker, [held], 60_000)
            if self.tx in renewal.lost:
                del self.actors[worker]

    async def sleep(self) -> None:
        worker, actor = self.pick()
        if actor is not None and not actor.under_way and not actor.unread:
            await self.house.store.release(self.tx, actor.grant.epoch, actor.number, actor.last, idle=True)
            del self.actors[worker]

    async def crash(self) -> None:
        worker, actor = self.pick()
        if actor is not None:
            del self.actors[worker]

    async def expire(self) -> None:
        """The lease runs out, whoever holds it; its holder may not know."""
        if f"l:{self.tx}".encode() in await self.house.due_members(self.tx):
            await self.house.expire_lease(self.tx)
            await self.house.due(self.tx)

    async def lose(self) -> None:
        """Redis loses the next few things that happen, after everyone has seen them."""
        then = await self.house.keyspace()
        weights = self.rng.choice(LOST)
        for _ in range(self.rng.randint(1, 6)):
            await self.happen(weights)
            await self.check()
        await self.house.rewind(then)

    async def follow(self) -> None:
        await self.client.follow(self.house, self.tx)

    def pick(self) -> tuple[str, Actor | None]:
        worker = self.rng.choice([*self.actors] or [*WORKERS])
        return worker, self.actors.get(worker)

    # what must hold

    async def check(self) -> None:
        before = START
        answer = await self.house.store.read_log(self.tx, START, 1_000)
        if isinstance(answer, LogReset):
            before = answer.cursor
            answer = await self.house.store.read_log(self.tx, before, 1_000)
        assert isinstance(answer, LogPage)
        handled = []
        for entry in answer.entries:
            assert isinstance(entry, UpdateEntry)
            if before != START or entry.cursor.seq == 1:
                told = self.known.setdefault(entry.cursor, (before, entry.data))
                assert told == (before, entry.data), "one cursor, two histories"
            before = entry.cursor
            if entry.data.startswith(b"handled"):
                handled.append(int(entry.data.split()[1].rstrip(b",")))
        assert handled == list(range(handled[0], handled[-1] + 1)) if handled else True, "once each, in mid order"
        assert before == answer.head
        for entry in self.client.seen:
            assert isinstance(entry, UpdateEntry)
            assert self.known.get(entry.cursor, (START, entry.data))[1] == entry.data

    async def calm(self) -> None:
        """No more storm: everything must come to its end."""
        for _ in range(5):
            await self.expire()
            self.actors.clear()
            await self.claim()
            for _ in range(200):
                worker = next(iter(self.actors), None)
                if worker is None:
                    break
                actor = self.actors[worker]
                work = await self.house.work(self.tx)
                if not work.incoming and not actor.under_way:
                    released = await self.house.store.release(
                        self.tx, actor.grant.epoch, actor.number, actor.last, idle=True
                    )
                    assert isinstance(released, t.Released)
                    del self.actors[worker]
                else:
                    await self.read()
                    await self.turn()
        assert (await self.house.work(self.tx)).incoming == ()
        row = await self.house.session(self.tx)
        transaction = await self.house.store.get(self.tx)
        assert transaction is not None
        assert transaction.status == "idle"
        snapshots = await self.house.redis.xrevrange(self.house.store.keys.transaction(self.tx) + ":snap", count=1)
        assert snapshots[0][1][b"f"] == row.get("m", b"0"), "the last message that is stored is the last one handled"
        while (await self.house.store.read_log(self.tx, self.client.after, 1)).head != self.client.after:  # type: ignore[union-attr]
            await self.follow()


WEIGHTS = {"send": 8, "claim": 10, "read": 12, "turn": 20, "renew": 2, "sleep": 2, "crash": 1, "expire": 4, "follow": 5}
"""How often each of these happens."""
LOST = [WEIGHTS, {"send": 1, "read": 2}, {"expire": 1, "claim": 2, "turn": 2}]
"""What happens in a moment that Redis loses."""


@pytest.mark.parametrize("with_rewinds", [False, True])
@pytest.mark.parametrize("run", range(4))
async def test_a_storm(house: House, seed: int, run: int, with_rewinds: bool) -> None:
    rng = random.Random(f"{seed} {run} {with_rewinds}")
    tx = await house.begin(fields=b"0", connection_hooks=False, keep_updates=20)
    storm = Storm(house, tx, rng)
    weights = WEIGHTS | ({"lose": 6} if with_rewinds else {})
    for _ in range(STEPS):
        await storm.happen(weights)
        await storm.check()
    await storm.calm()
    await storm.check()
    assert storm.client.after.seq > 0
    assert with_rewinds or storm.known
