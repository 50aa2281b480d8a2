"""`Broker`: transactions from an application that reaches Redis itself."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from typing import Any, Self, TypeVar

from orbit.client.backoff import Backoff
from orbit.client.following import Event, Watcher, follow
from orbit.client.types import ScheduleInfo, StateInfo, TransactionError, TransactionInfo, TransactionPage, moment
from orbit.config import Limits
from orbit.errors import BadRequest, Conflict, Ended, NotFound, OutcomeUnknown, Overloaded, UpdatesReset
from orbit.protocol.ids import TxId
from orbit.protocol.messages import End, Reset, Update, Value
from orbit.protocol.values import pack, unpack
from orbit.state import State
from orbit.store import types as t
from orbit.store.planning import Plan
from orbit.store.registry import waits_for
from orbit.store.starts import StartOptions, by_class, by_name, check_id, draw_id
from orbit.store.store import Store

_T = TypeVar("_T")
_ATTEMPTS = 4


class Broker:
    """Starts, follows and steers transactions over Redis. One per process and loop; safe to use from many tasks.

    It connects at its first use; `async with` closes it at the end.

    Args:
        redis: A URL (`redis://`, `rediss://`, `unix://`, `redis+cluster://`, `redis+sentinel://`), or an open Store,
            which is then not closed.
        namespace: What begins every key of the deployment.
    """

    def __init__(self, redis: str | Store, *, namespace: str = "orbit", limits: Limits | None = None) -> None:
        self._redis = redis
        self._namespace = namespace
        self._limits = limits or Limits()
        self._opening = asyncio.Lock()
        self._store: Store | None = None
        self._watcher: Watcher | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what was opened. Iterators that still run end with an error."""
        async with self._opening:
            self._store = self._watcher = None
            await self._stack.aclose()

    # ---- starting

    async def start(
        self,
        state: State | type[State] | str,
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        idempotency_key: str | None = None,
        delay_s: float = 0.0,
        at: datetime | None = None,
        queue: str | None = None,
        priority: int = 0,
    ) -> str:
        """Start a transaction, once per id or key.

        Args:
            state: A State, or its class: its input is validated in full here. Or its name: its input is judged by the
                schema that the workers published, and in full by the worker.
            input: The fields, where `state` doesn't hold them.
            id: 16 to 64 characters of `A-Za-z0-9_-`; drawn where it isn't given.
            idempotency_key: The same key with the same start again gives the same transaction.
            delay_s / at: How long to wait before it runs, or until when (a time with a time zone).
            queue: Instead of its State's queue.
            priority: From -100 to 100: the higher, the sooner among those of its queue and State.

        Returns:
            The transaction's id.

        Raises:
            BadRequest: The State is unknown, or the input doesn't fit; the message names the fields.
            Conflict: The id or key is another start's.
            OutcomeUnknown: Redis broke in between, more than once. The same start with the same id or key is safe.

        Cancellation: it may be started.
        """
        store = await self._open()
        tx = self._name(store, id, idempotency_key)
        options = StartOptions(delay_s, at, queue, priority)
        if isinstance(state, State) and input is not None:
            raise BadRequest("a State holds its input itself")
        if isinstance(state, str):
            new = by_name(state, await store.states(), input or {}, tx, options)
        else:
            new = by_class(state, input or {}, tx, options)
        answer = await _insist(lambda: store.start(new))
        if isinstance(answer, t.Taken):
            raise Conflict("this id or key is another start's")
        return answer.tx

    async def states(self) -> tuple[StateInfo, ...]:
        """The States that workers run or ran."""
        records = await (await self._open()).states()
        return tuple(StateInfo(one.name, one.version, one.queue, one.live, json.loads(one.schema)) for one in records)

    # ---- looking

    async def get(self, tx: str) -> TransactionInfo:
        """One transaction. Raises NotFound."""
        store = await self._open()
        found = await store.get(check_id(tx))
        if found is None:
            raise NotFound("no such transaction")
        return _info(found, await store.waiting_for(found) if found.status == "pending" else None)

    async def list(
        self, *, state: str | None = None, status: str | None = None, limit: int = 100, page: str | None = None
    ) -> TransactionPage:
        """Transactions, newest first. `page`: the `next` of the page before."""
        store = await self._open()
        found = await store.list(state=state, status=status, limit=limit, page=page)
        waits = any(one.status == "pending" for one in found.transactions)
        runnable = await store.runnable() if waits else frozenset()
        return TransactionPage(tuple(_info(one, waits_for(one, runnable)) for one in found.transactions), found.next)

    async def result(self, tx: str, *, wait_s: float | None = None) -> Value:
        """The result, once the transaction is over.

        Args:
            wait_s: How long to wait for the end; None: as long as it takes.

        Raises:
            TransactionFailed: It failed or was cancelled.
            TimeoutError: It isn't over yet.
            NotFound: No such transaction.
        """
        info = await self.get(tx)
        if not info.over:
            async with asyncio.timeout(wait_s), aclosing(self.events(tx, after=info.cursor)) as events:
                async for event in events:
                    if isinstance(event, End):
                        break
            info = await self.get(tx)
        if not info.over:
            raise TimeoutError("the transaction isn't over: it was retried meanwhile")
        return info.outcome()

    # ---- steering

    async def send(self, tx: str, data: Value, *, idempotency_key: str | None = None) -> None:
        """A message for the State, stored when this returns. It comes from no session, so nothing is answered.

        Args:
            idempotency_key: Makes sending it again safe, for 24 hours.

        Raises:
            NotFound, Ended, Overloaded, Unavailable: It wasn't stored.
            BadRequest, TooLarge: The data can't be sent.
            OutcomeUnknown: It may be stored or not; with a key, it may be sent again.
        """
        message = t.NewMessage(pack(data, limit_bytes=self._limits.data_bytes), key=idempotency_key)
        store, tx = await self._open(), check_id(tx)
        if idempotency_key is None:
            answer = await store.append(tx, message)
        else:
            answer = await _insist(lambda: store.append(tx, message))
        match answer:
            case t.Stored():
                return
            case t.InboxFull():
                raise Overloaded("the inbox is full", retry_after_ms=1000)
            case t.Missing():
                raise NotFound("no such transaction")
            case t.Over():
                raise Ended(f"the transaction is {answer.status}")
            case t.WrongMid() | t.NotPlace() | t.Barred():
                raise AssertionError("a message without a session is neither numbered nor placed")

    async def cancel(self, tx: str, reason: str = "") -> str:
        """Cancel a transaction; when this returns, that is certain to happen. Returns its status for now.

        Raises:
            NotFound, Ended.
        """
        store, tx = await self._open(), check_id(tx)
        answer = await _insist(lambda: store.cancel(tx, reason))
        if isinstance(answer, t.Missing):
            raise NotFound("no such transaction")
        if isinstance(answer, t.Over):
            raise Ended(f"the transaction is {answer.status}")
        return answer.status

    async def retry(self, tx: str) -> str:
        """Let a failed transaction go on from its last snapshot. Returns its status for now.

        Raises:
            NotFound.
            Conflict: It isn't failed.
        """
        store, tx, request = await self._open(), check_id(tx), secrets.token_hex(16)
        answer = await _insist(lambda: store.retry(tx, request))
        if isinstance(answer, t.Missing):
            raise NotFound("no such transaction")
        if isinstance(answer, t.NotFailed):
            raise Conflict(f"the transaction is {answer.status}, not failed")
        return answer.status

    # ---- following

    async def updates(self, tx: str, *, after: str = "0") -> AsyncGenerator[Update]:
        """The updates that are for everybody, each once, in order, until the transaction is over.

        Args:
            after: A cursor; `"0"`: from the start; `"$"`: only what is new.

        Raises:
            UpdatesReset: What was seen so far doesn't stand any more: go on from its view and cursor.
            NotFound, Gone, BadRequest.
        """
        async with aclosing(self.events(tx, after=after)) as events:
            async for event in events:
                if isinstance(event, Reset):
                    raise UpdatesReset(event.reason, event.view, event.cursor)
                if isinstance(event, Update):
                    yield event

    async def events(self, tx: str, *, after: str = "0") -> AsyncGenerator[Event]:
        """As `updates`, but whole: resets, advances and the end come as events, too."""
        store = await self._open()
        assert self._watcher is not None
        async with aclosing(follow(store, self._watcher, check_id(tx), after)) as events:
            async for event in events:
                yield event

    # ---- schedules

    async def schedule(
        self,
        name: str,
        state: type[State] | State | str,
        input: Mapping[str, Any] | None = None,
        *,
        cron: str,
        tz: str = "UTC",
        queue: str | None = None,
        priority: int = 0,
    ) -> None:
        """Have a State started again and again, each time once, however many workers there are.

        The same again changes nothing, so each deploy may say it; another one of the same name takes its place. Times
        that pass while no worker is there are made up for by one start.

        Args:
            state / input: As of `start`.
            cron: Five fields: minute, hour, day of the month, month, day of the week.
            tz: The time zone that they are in, by its name in the IANA database.

        Raises:
            BadRequest: The State is unknown, the input doesn't fit, or cron or time zone mean nothing.
        """
        store = await self._open()
        options = StartOptions(queue=queue, priority=priority)
        if isinstance(state, str):
            new = by_name(state, await store.states(), input or {}, draw_id(), options)
        else:
            new = by_class(state, input or {}, draw_id(), options)
        plan = Plan(name, new.state, json.loads(new.fields), cron, tz, queue, priority)
        first_ms = plan.next_ms(await store.now_ms(name))
        if first_ms is None:
            raise BadRequest(f"cron {cron!r}: it never comes")
        await _insist(lambda: store.schedule(name, plan.record, first_ms))

    async def unschedule(self, name: str) -> None:
        """Take a schedule away; what it started goes on.

        Raises:
            NotFound: There is none of this name.
        """
        store = await self._open()
        if not await store.unschedule(name):
            raise NotFound(f"no schedule {name!r}")

    async def schedules(self) -> tuple[ScheduleInfo, ...]:
        """All schedules, by name."""
        rows = await (await self._open()).schedules()
        plans = [(Plan.of(row.record), row.next_ms) for row in rows]
        return tuple(
            ScheduleInfo(
                plan.name, plan.state, plan.fields, plan.cron, plan.tz, plan.queue, plan.priority, moment(next_ms)
            )
            for plan, next_ms in plans
        )

    # ---- inside

    async def _open(self) -> Store:
        async with self._opening:
            if self._store is None:
                store = self._redis
                if isinstance(store, str):
                    store = await Store.open(store, self._settings())
                    self._stack.push_async_callback(store.close)
                self._watcher = await self._stack.enter_async_context(Watcher(store))
                self._store = store
            return self._store

    def _settings(self) -> t.StoreSettings:
        return t.StoreSettings(namespace=self._namespace, inbox_messages=self._limits.inbox_messages)

    def _name(self, store: Store, tx: str | None, key: str | None) -> TxId:
        if tx is not None and key is not None:
            raise BadRequest("an id or an idempotency key, not both")
        if key is not None:
            return store.derived_id("start", "", key)
        return draw_id() if tx is None else check_id(tx)


async def _insist(verb: Callable[[], Awaitable[_T]]) -> _T:
    """Do what is safe to repeat until its outcome is known, a few times."""
    backoff = Backoff(max_s=2.0)
    for attempt in range(_ATTEMPTS - 1):
        try:
            return await verb()
        except OutcomeUnknown:
            await asyncio.sleep(backoff.wait_s(attempt))
    return await verb()


def _info(found: t.Transaction, waiting_for: str | None) -> TransactionInfo:
    return TransactionInfo(
        id=found.tx,
        state=found.state,
        version=found.version,
        queue=found.queue,
        status=found.status,
        created_at=moment(found.created_ms),
        started_at=None if found.started_ms is None else moment(found.started_ms),
        ended_at=None if found.ended_ms is None else moment(found.ended_ms),
        cursor=str(found.head),
        commit=found.number,
        epoch=found.epoch,
        attempts=found.attempts,
        result=None if found.result is None else unpack(found.result),
        error=TransactionError(found.error.type, found.error.message) if found.error else None,
        waiting_for=waiting_for,
        traceback=found.trace,
        parent=found.parent,
    )
