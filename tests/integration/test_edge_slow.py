"""Clients that read slowly or not at all: memory stays bounded, nobody else notices, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orbit.edge.config import PAGE_BYTES
from orbit.store.store import Store
from tests.integration.edge_bench import Hand, RunningEdge, attach, updates

MIB = 1024 * 1024
BLOCK = "x" * 20_000
SLOW = {"max_queue": 1, "write_limit": 1024}


async def pour(hand: Hand, first: int, last: int) -> None:
    for n in range(first, last, 20):
        await hand.update(*([k, BLOCK] for k in range(n, n + 20)))


async def test_a_client_that_stops_reading_costs_little_and_misses_nothing(
    edge: RunningEdge, hand: Hand, measured: Callable[[str], None]
) -> None:
    slow, quick = await edge.link(**SLOW), await edge.link()
    await attach(slow, hand)
    await attach(quick, hand)
    seen = asyncio.create_task(updates(quick, 2000))
    most = 0.0
    for n in range(0, 2000, 200):
        await pour(hand, n, n + 200)
        most = max(most, await edge.counted("waiting_bytes"))
    assert [n for n, _ in await seen] == list(range(2000))
    assert await edge.counted("followers_cut_total") > 0
    measured(f"40 MB to a client that reads nothing: at most {most / MIB:.2f} MiB wait for it in the edge")
    assert most < 2 * MIB
    assert [n for n, _ in await updates(slow, 2000)] == list(range(2000))
    await hand.update([2000, ""])
    assert (await updates(slow, 1))[0][0] == 2000


async def test_one_large_commit_does_not_fill_the_edge(edge: RunningEdge, hand: Hand) -> None:
    slow, quick = await edge.link(**SLOW), await edge.link("msgpack")
    await attach(slow, hand)
    await attach(quick, hand)
    await hand.update(*([n, "x" * (MIB - 100)] for n in range(15)))
    assert await edge.counted("waiting_bytes") < 8 * MIB
    assert [n for n, _ in await updates(quick, 15)] == list(range(15))
    assert [n for n, _ in await updates(slow, 15)] == list(range(15))


async def test_many_attachments_of_a_client_that_stops_reading(edge: RunningEdge, store: Store) -> None:
    hands = [await Hand.start(store) for _ in range(30)]
    slow = await edge.link(**SLOW)
    for hand in hands:
        await slow.send({"type": "attach", "tx": hand.tx})
    most = 0.0
    for _ in range(5):
        for hand in hands:
            await pour(hand, 0, 20)
        most = max(most, await edge.counted("waiting_bytes"))
    assert most < 4 * MIB
    got: dict[str, list[int]] = {hand.tx: [] for hand in hands}
    while sum(map(len, got.values())) < 30 * 100:
        message = await slow.expect("update")
        got[message["tx"]].append(int(message["cursor"].partition("-")[0]))
    assert all(seqs == list(range(1, 101)) for seqs in got.values())


async def test_a_client_that_asks_and_never_listens_is_not_heard(edge: RunningEdge) -> None:
    """What isn't read of the answers stops the reading of the questions."""
    link = await edge.link(**SLOW)
    frame = '[{"type":"ping","nonce":"%s"}]' % ("x" * 60_000)

    async def ask() -> None:
        for _ in range(1000):
            await link.ws.send(frame)

    asking = asyncio.create_task(ask())
    before = -1.0
    while (waiting := await edge.counted("waiting_bytes")) != before or not waiting:
        before = waiting
    assert before < 2 * MIB
    assert not asking.done()
    for _ in range(1000):
        assert (await link.expect("pong"))["nonce"]
    await asking


async def test_a_large_log_is_served_to_many_at_their_own_pace(edge: RunningEdge, hand: Hand) -> None:
    await pour(hand, 0, 400)
    links = [await edge.link(**SLOW) for _ in range(20)]
    for link in links:
        await link.send({"type": "attach", "tx": hand.tx})
    assert await edge.counted("waiting_bytes") < 20 * MIB
    for link in links:
        assert [n for n, _ in await updates(link, 400)] == list(range(400))


async def test_pages_that_lie_ready_fill_no_buffers(edge: RunningEdge, hand: Hand) -> None:
    """Those that come at the same place share pages: then nothing is waited for between two, but the client."""
    await pour(hand, 0, 100)
    links = [await edge.link(**SLOW) for _ in range(20)]
    for link in links:
        await link.send({"type": "attach", "tx": hand.tx})
    before = -1.0
    while (waiting := await edge.counted("waiting_bytes")) != before or not waiting:
        before = waiting
    assert before < 20 * 2 * PAGE_BYTES
