"""`SyncBroker`: the Broker's verbs from threads, processes and scripts."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from orbit import SyncBroker, UsageError
from orbit.client import Broker, End
from orbit.errors import BadRequest, NotFound, TransactionFailed
from orbit.store.store import Store
from tests.support.waiting import PATIENCE_S
from tests.unit.client.job import RECORD, Count, Job

NOBODY = "nobody-0123456789"


def made(store: Store, url: str) -> SyncBroker:
    return SyncBroker(url, namespace=store.settings.namespace)


def public(cls: type) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(verb) for name, verb in inspect.getmembers(cls, callable) if name[0] != "_"}


def test_has_the_verbs_of_the_broker_with_the_same_parameters_results_and_words() -> None:
    verbs, plain = public(Broker), public(SyncBroker)
    assert plain.keys() == verbs.keys()
    for name, verb in verbs.items():
        assert list(plain[name].parameters.values()) == list(verb.parameters.values()), name
        assert plain[name].return_annotation == verb.return_annotation.removeprefix("Async"), name
        assert not inspect.iscoroutinefunction(getattr(SyncBroker, name))
        if name != "close":
            assert getattr(SyncBroker, name).__doc__ == getattr(Broker, name).__doc__
    constructors = inspect.signature(Broker), inspect.signature(SyncBroker)
    assert list(constructors[0].parameters) == list(constructors[1].parameters)


async def test_each_verb_does_what_the_brokers_does(store: Store, redis_url: str) -> None:
    await store.publish_states([RECORD])
    with_it = asyncio.to_thread

    def before(broker: SyncBroker) -> str:
        tx = broker.start(Count(sum=1), id="a" * 16)
        assert broker.start("Count", {"total": 1}, idempotency_key="k", delay_s=60) != tx
        assert broker.get(tx).status == "pending"
        assert len(broker.list(state="Count").transactions) == 2
        assert [state.name for state in broker.states()] == ["Count"]
        broker.send(tx, {"any": b"thing"})
        with pytest.raises(TimeoutError):
            broker.result(tx, wait_s=0.01)
        with pytest.raises(NotFound):
            broker.get(NOBODY)
        with pytest.raises(BadRequest):
            next(broker.updates(tx, after="nowhere"))
        return tx

    def after(broker: SyncBroker, tx: str) -> None:
        assert [update.data for update in broker.updates(tx)] == ["one", "two"]
        assert isinstance(list(broker.events(tx))[-1], End)
        assert broker.result(tx) == {"all": "done"}

    broker = await with_it(made(store, redis_url).__enter__)
    tx = await with_it(before, broker)
    job = await Job.claimed(store, tx)
    following = asyncio.create_task(with_it(after, broker, tx))
    await job.update("one")
    await job.update("two")
    await job.end(result={"all": "done"})
    await following
    other = await with_it(broker.start, Count(sum=2))
    assert await with_it(broker.cancel, other, "enough") in ("pending", "cancelled")
    await with_it(broker.close)


async def test_many_threads_share_one(store: Store, redis_url: str) -> None:
    await store.publish_states([RECORD])

    def work(number: int) -> str:
        tx = broker.start("Count", {"total": number})
        assert broker.get(tx).id == tx
        return tx

    def all_of_it() -> set[str]:
        with ThreadPoolExecutor(16) as pool:
            return set(pool.map(work, range(200)))

    broker = made(store, redis_url)
    assert len(await asyncio.to_thread(all_of_it)) == 200
    assert [thread.name for thread in threading.enumerate()].count("orbit portal") == 1
    await asyncio.to_thread(broker.close)
    assert "orbit portal" not in [thread.name for thread in threading.enumerate()]
    assert len((await asyncio.to_thread(broker.list)).transactions) == 100, "a later use opens anew"
    await asyncio.to_thread(broker.close)


async def test_a_running_loop_is_told_of_the_broker(redis_url: str) -> None:
    broker = SyncBroker(redis_url)
    for verb in (broker.states, broker.close, lambda: broker.updates(NOBODY), broker.__enter__):
        with pytest.raises(UsageError, match=r"use orbit\.Broker"):
            verb()


async def test_a_forgotten_iterator_is_closed(store: Store, job: Job, redis_url: str) -> None:
    broker = made(store, redis_url)
    updates = await asyncio.to_thread(broker.updates, job.tx)
    await job.update("one")
    assert (await asyncio.to_thread(next, updates)).data == "one"
    inner, _ = broker._opened or pytest.fail("it isn't open")
    assert inner._watcher is not None
    ears, unwatched = inner._watcher._ears, asyncio.Event()
    loop, unwatch = asyncio.get_running_loop(), inner._watcher._subscriber.unwatch

    async def heard(tx: Any) -> None:
        await unwatch(tx)
        loop.call_soon_threadsafe(unwatched.set)

    inner._watcher._subscriber.unwatch = heard  # type: ignore[method-assign]
    assert job.tx in ears
    del updates
    gc.collect()
    async with asyncio.timeout(PATIENCE_S):
        await unwatched.wait()
    assert not ears
    await asyncio.to_thread(broker.close)


async def test_closing_ends_what_still_waits(store: Store, job: Job, redis_url: str) -> None:
    broker = made(store, redis_url)
    updates = await asyncio.to_thread(broker.updates, job.tx)
    await job.update("one")
    assert (await asyncio.to_thread(next, updates)).data == "one"
    waiting = asyncio.create_task(asyncio.to_thread(broker.result, job.tx))
    portal = (broker._opened or pytest.fail("it isn't open"))[1]
    while not portal._calls:
        await asyncio.to_thread(broker.get, job.tx)
    await asyncio.to_thread(broker.close)
    with pytest.raises(UsageError, match="closed"):
        await waiting
    with pytest.raises(UsageError, match="closed"):
        await asyncio.to_thread(next, updates)


async def test_a_failed_transaction_is_raised_in_the_callers_thread(store: Store, job: Job, redis_url: str) -> None:
    await job.end("cancelled")
    broker = made(store, redis_url)
    with pytest.raises(TransactionFailed):
        await asyncio.to_thread(broker.result, job.tx)
    await asyncio.to_thread(broker.close)


def test_gevents_patched_threads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    patched = SimpleNamespace(is_module_patched=lambda name: name == "threading")
    monkeypatch.setitem(sys.modules, "gevent.monkey", patched)
    with pytest.raises(UsageError, match="gthread"):
        SyncBroker("redis://localhost").states()


# ---- whole processes


def run(source: str, *arguments: str) -> str:
    """What a script prints that must end by itself, with nothing on stderr."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(source), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


async def test_a_process_ends_with_calls_and_iterators_still_open(store: Store, job: Job, redis_url: str) -> None:
    await job.update("one")
    script = """
        import sys, threading
        from orbit import SyncBroker
        url, namespace, tx = sys.argv[1:]
        broker = SyncBroker(url, namespace=namespace)
        updates = broker.updates(tx)
        print(next(updates).data)
        waiting = broker.updates(tx)
        next(waiting)

        def wait():
            try:
                next(waiting)
            except Exception as error:
                pass

        threading.Thread(target=wait, daemon=True).start()
    """
    assert await asyncio.to_thread(run, script, redis_url, store.settings.namespace, job.tx) == "one\n"


async def test_a_forked_child_begins_anew(store: Store, job: Job, redis_url: str) -> None:
    await job.update("one")
    await job.update("two")
    script = """
        import os, sys, warnings
        from orbit import SyncBroker, UsageError
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        url, namespace, tx = sys.argv[1:]
        fresh = SyncBroker(url, namespace=namespace)
        broker = SyncBroker(url, namespace=namespace)
        updates = broker.updates(tx)
        assert next(updates).data == "one"
        with broker._lock:  # as another thread might hold it at that moment
            child = os.fork()
        if child == 0:
            assert broker.get(tx).id == tx
            assert fresh.get(tx).id == tx
            assert next(broker.updates(tx)).data == "one"
            try:
                next(updates)
            except UsageError as error:
                print(error, flush=True)
            broker.close()
            sys.exit(0)  # with `fresh` open
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        assert next(updates).data == "two", "the parent's goes on"
        print(broker.get(tx).status)
        broker.close()
    """
    out = await asyncio.to_thread(run, script, redis_url, store.settings.namespace, job.tx)
    assert out.splitlines()[0].startswith("this iterator began before the fork")
    assert out.splitlines()[1] == "running"
