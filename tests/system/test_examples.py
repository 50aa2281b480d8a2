"""The examples on real processes, some of which are killed on the way."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from examples import fan_out, token_stream
from orbit import Broker, Client, TransactionFailed
from orbit.protocol.messages import End, Rejected, Reset, Update
from orbit.pytest_plugin import Dev
from tests.support.processes import Process, Stage
from tests.support.waiting import SCENE_S, soon

pytestmark = pytest.mark.system
EXAMPLES = Path(__file__).parents[2] / "examples"
LEASE = ("--lease-s", "1")


@pytest.fixture(autouse=True)
async def patience() -> AsyncIterator[None]:
    async with asyncio.timeout(SCENE_S):
        yield


async def relieve(stage: Stage, worker: Process, app: str, redis: str) -> Process:
    """Kill a worker with all that it runs, and start another."""
    await worker.kill()
    return await stage.worker(EXAMPLES / app, redis, *LEASE)


# ---- a stream of tokens


class Reader:
    """Reads a stream as a page would: updates are appended, a reset begins anew with the view."""

    def __init__(self, client: Client, tx: str) -> None:
        self.text, self.parts, self.resets = "", 0, 0
        self.result: Any = None
        self.attached, self.began = asyncio.Event(), asyncio.Event()
        self._client, self._tx = client, tx
        self.done = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        attachment = await self._client.attach(self._tx)
        self.attached.set()
        async for event in attachment:
            match event:
                case Update():
                    self.text += str(event.data)
                    self.parts += 1
                case Reset():
                    self.text = str(event.view)
                    self.resets += 1
                case End():
                    self.result = event.result
            self.began.set()


async def expected(prompt: str, tokens: int) -> str:
    return "".join([token async for token in token_stream.generate(prompt, "", tokens, 1e9)])


async def test_a_stream_of_tokens_for_who_comes_late_though_workers_are_killed(stage: Stage) -> None:
    redis = (await stage.embedded()).url
    worker = await stage.worker(EXAMPLES / "token_stream.py", redis, *LEASE)
    edges = [await stage.edge(redis) for _ in range(2)]  # one that has followed all along may still know the start
    fields = {"prompt": "Why?", "tokens": 3000, "tokens_per_s": 4000}
    async with Client(edges[0].url) as client, Client(edges[1].url) as other:
        worker.signal(signal.SIGSTOP)  # else the log may have lost its start before the first reader comes
        tx = await client.start("TokenStream", fields)
        early = Reader(client, tx)
        await early.attached.wait()
        worker.signal(signal.SIGCONT)
        await soon(lambda: early.parts > 40)
        worker = await relieve(stage, worker, "token_stream.py", redis)
        await soon(lambda: early.parts > 200)
        late = Reader(other, tx)
        await late.began.wait()
        await relieve(stage, worker, "token_stream.py", redis)
        await asyncio.gather(early.done, late.done)
    whole = await expected("Why?", 3000)
    assert early.result == late.result == {"text": whole, "stopped": False}
    assert early.text == late.text == whole
    assert (early.resets, late.resets) == (0, 1), "the log no longer has its start: the view stands for it"
    assert late.parts < early.parts


async def test_a_stream_is_stopped(orbit_dev: Callable[..., Dev]) -> None:
    dev = orbit_dev(token_stream)
    async with Client(dev.url) as client:
        tx = await client.start("TokenStream", {"prompt": "Why?", "tokens": 100_000, "tokens_per_s": 400})
        attachment = await client.attach(tx)
        text, refused = "", []
        async for event in attachment:
            match event:
                case Update():
                    if not text:
                        await attachment.send("more!")
                        await attachment.send("stop")
                    text += str(event.data)
                case Rejected():
                    refused.append((event.mid, event.message))
                case End():
                    assert event.result == {"text": text, "stopped": True}
        assert refused == [(1, 'say "stop", or nothing')]


# ---- the encoding of a video


async def test_a_video_is_encoded_on_all_cpus_though_its_worker_is_killed(stage: Stage) -> None:
    redis = (await stage.embedded()).url
    options = (*LEASE, "--processes", "2")
    worker = await stage.worker(EXAMPLES / "encode.py", redis, *options)
    async with Broker(redis) as broker:
        tx = await broker.start("Encode", {"frames": 480})
        seen: list[Any] = []
        async for update in broker.updates(tx):
            seen.append(update.data)
            if "done" in update.data:
                break
        await worker.kill()
        await stage.worker(EXAMPLES / "encode.py", redis, *options)
        undisturbed = await broker.start("Encode", {"frames": 480, "progress": False})
        assert await broker.result(tx) == await broker.result(undisturbed)
        updates = [update.data async for update in broker.updates(tx)]
        quiet = [update.data async for update in broker.updates(undisturbed)]
    assert [update for update in updates if "done" in update] == quiet
    assert [update["done"] for update in quiet] == [240, 480]
    assert {"frame": 20, "attempt": 1} in seen


# ---- an order


async def test_an_order_is_paid_shipped_or_refunded(stage: Stage) -> None:
    redis = (await stage.embedded()).url
    ledger = stage.folder / "ledger.db"
    env = {"ORDER_LEDGER": str(ledger)}
    await (await stage.orbit("worker", str(EXAMPLES / "order.py"), "--redis", redis, env=env)).ready()

    async def paid(broker: Broker) -> str:
        tx = await broker.start("Order", {"item": "tea", "cents": 450})
        async for update in broker.updates(tx):
            assert update.data["paid"].startswith("receipt ")
            return tx
        raise AssertionError("it ended before it was paid")

    async with Broker(redis) as broker:
        shipped, cancelled = await asyncio.gather(paid(broker), paid(broker))
        await broker.send(shipped, {"shipped": "RR1"})
        assert (await broker.result(shipped))["shipment"] == {"shipped": "RR1"}
        await broker.cancel(cancelled, "changed my mind")
        with pytest.raises(TransactionFailed):
            await broker.result(cancelled)
        *_, last = [update.data async for update in broker.updates(cancelled)]
    assert last == {"refunded": 450, "why": "changed my mind"}
    with closing(sqlite3.connect(ledger)) as read:
        assert read.execute("SELECT cents FROM payments").fetchall() == [(450,), (450,)]
        assert read.execute("SELECT of, cents FROM refunds").fetchall() == [(cancelled, 450)]


# ---- an approval


async def test_an_approval_is_for_those_who_are_asked(stage: Stage) -> None:
    redis = (await stage.embedded()).url
    keys = stage.folder / "keys.json"

    async def printed(*arguments: str) -> str:
        process = await stage.orbit(*arguments)
        assert await process.wait() == 0, process.tail()
        return "\n".join(process.out)

    keys.write_text(await printed("keys"))
    await stage.worker(EXAMPLES / "approval.py", redis)
    edge = await stage.edge(redis, "--token-keys", str(keys))
    async with Broker(redis) as broker:
        tx = await broker.start("Approval", {"what": "a kettle", "approvers": ["Bea"], "remind_after_s": 0.2})

        async def token(who: str) -> str:
            can = ("--tx", tx, "--can", "watch,send", "--ttl-s", "600", "--sub", who)
            return await printed("token", "--token-keys", str(keys), *can)

        async with Client(edge.url, token=await token("Ann")) as ann, Client(edge.url, token=await token("Bea")) as bea:
            hers, theirs = await ann.attach(tx), await bea.attach(tx)
            await hers.send("yes")
            async for event in hers:
                if isinstance(event, Update) and "refused" in event.data:
                    break
            seen = []
            async for event in theirs:
                seen.append(event)
                if isinstance(event, Update) and "reminder" in event.data:
                    break
            await theirs.send("no")
            seen += [event async for event in theirs]
        assert await broker.result(tx) == {"approved": False, "by": "Bea"}
    updates = [event.data for event in seen if isinstance(event, Update)]
    assert updates[0] == {"asked": "a kettle"}
    assert {"reminder": 1, "of": "a kettle"} in updates
    assert "refused" not in [key for update in updates for key in update], "that was for Ann alone"


# ---- children


async def test_a_hundred_children_on_workers_that_are_killed(stage: Stage) -> None:
    redis = (await stage.embedded()).url
    workers = [await stage.worker(EXAMPLES / "fan_out.py", redis, *LEASE) for _ in range(2)]
    async with Broker(redis) as broker:
        tx = await broker.start("Primes", {"below": 1_000_000})
        seen: list[Any] = []
        async for update in broker.updates(tx):
            seen.append(update.data)
            if len(seen) in (5, 50):
                await relieve(stage, workers.pop(0), "fan_out.py", redis)
        assert await broker.result(tx) == 78_498
        assert [update["done"] for update in seen] == list(range(1, 101))
        parts = (await broker.list(state="Part", limit=1000)).transactions
    assert len(parts) == 100
    assert {part.status for part in parts} == {"finished"}
    assert {part.parent for part in parts} == {tx}


def test_a_hundred_children_in_one_process(orbit_dev: Callable[..., Dev]) -> None:
    dev = orbit_dev(fan_out)
    assert dev.broker.result(dev.broker.start("Primes", {"below": 10_000})) == 1229
