"""The verbs, as hooks call them: what each does in `run`, in a handler, in a loop's body and in a step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from orbit.errors import RequestError, UsageError
from orbit.protocol.ids import PublicName
from orbit.protocol.values import is_text, pack
from orbit.state import (
    Child,
    Connection,
    Finished,
    Message,
    Refused,
    Restarted,
    State,
    Step,
    SyncConnection,
    SyncTransaction,
    Transaction,
)
from orbit.store.starts import StartOptions
from orbit.store.types import NewEnd, NewUpdate
from orbit.worker import children, pauses, timers
from orbit.worker.actor import Actor
from orbit.worker.frames import Frame, Kind, Verb, check_task, forbid, frame_of
from orbit.worker.loops import run_each
from orbit.worker.scopes import recall, record, run_keys
from orbit.worker.settling import persist
from orbit.worker.steps import Call, How, StepCall, perform, send_progress
from orbit.worker.threads import blocking
from orbit.worker.turn import Turn, failed

T = TypeVar("T")

_ONLY_RUN = frozenset({Kind.HANDLER, Kind.BODY, Kind.STEP})
_NO_STEP = frozenset({Kind.STEP})
_PAGE = 100


class ActorTransaction(Transaction):
    """`self.transaction` of a State that a worker runs."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self.id = actor.tx

    @property
    def sync(self) -> SyncTransaction:  # type: ignore[override]  # it is read only
        return _SyncTransaction(self)  # kept, the two would hold each other

    @property
    def cancel_reason(self) -> str | None:  # type: ignore[override]  # it is read only
        return self._actor.cancel_reason

    def _verb(self, verb: str, begin: Callable[[Frame], Awaitable[T]]) -> Verb[T]:
        frame = frame_of(self._actor, verb)
        check_task(frame, verb)
        return Verb(frame, verb, lambda: begin(frame))

    def send_update(self, *data: Any, once: str | None = None) -> Verb[None]:
        return self._verb("send_update", lambda frame: send(self._actor, frame, data, None, once))

    def finish(self, result: Any = None) -> Verb[None]:
        async def begin(frame: Frame) -> None:
            limit = self._actor.around.limits.data_bytes
            await end(self._actor, frame, "finish", NewEnd("finished", pack(result, limit_bytes=limit, what="result")))

        return self._verb("finish", begin)

    def fail(self, message: str) -> Verb[None]:
        async def begin(frame: Frame) -> None:
            await end(self._actor, frame, "fail", failed("Failed", _text(message)))

        return self._verb("fail", begin)

    def step(
        self, name: str, fn: Callable[..., Any], *args: Any, retries: int = 0, timeout_s: float | None = None,
        backoff_s: float = 1.0, in_process: bool = False, **kwargs: Any,
    ) -> StepCall:  # fmt: skip
        how = How(name, retries, timeout_s, backoff_s, in_process)
        return StepCall(self._actor, frame_of(self._actor, "step"), Call(how, fn, args, kwargs))

    def gather(self, *steps: Step[Any]) -> Verb[list[Any]]:
        mine = [step for step in steps if isinstance(step, StepCall)]
        if len(mine) != len(steps):
            raise UsageError("gather: takes what self.transaction.step(...) returns, not yet awaited")
        calls = [step.give_away() for step in mine]
        return self._verb("gather", lambda frame: perform(self._actor, frame, "gather", calls))

    def each(self, name: str, items: Sequence[T], body: Callable[[T], Any]) -> Verb[None]:
        async def begin(frame: Frame) -> None:
            await self._actor.begin_verb()
            forbid(frame, "each", _ONLY_RUN, "a loop belongs into run")
            await run_each(self._actor, frame, name, items, body)

        return self._verb("each", begin)

    def sleep(self, name: str, seconds: float) -> Verb[None]:
        return self._verb("sleep", lambda frame: pauses.sleep(self._actor, frame, name, seconds))

    def set_timer(self, name: str, seconds: float) -> Verb[None]:
        return self._verb("set_timer", lambda frame: timers.set_timer(self._actor, frame, name, seconds))

    def cancel_timer(self, name: str) -> Verb[None]:
        return self._verb("cancel_timer", lambda frame: timers.cancel_timer(self._actor, frame, name))

    def wait_message(self, name: str, timeout_s: float | None = None) -> Verb[Message | None]:
        async def begin(frame: Frame) -> Message | None:
            found = await pauses.wait_message(self._actor, frame, name, timeout_s)
            if found is None:
                return None
            return Message(found.data, ActorConnection(self._actor, found.session, True, found.subject))

        return self._verb("wait_message", begin)

    def start(
        self, name: str, state: State | str, input: Mapping[str, Any] | None = None, *, queue: str | None = None,
        priority: int = 0, delay_s: float = 0.0,
    ) -> Verb[Child]:  # fmt: skip
        async def begin(frame: Frame) -> Child:
            options = StartOptions(delay_s, queue=queue, priority=priority)
            return await children.start(self._actor, frame, name, state, input, options)

        return self._verb("start", begin)

    def checkpoint(self) -> Verb[None]:
        async def begin(frame: Frame) -> None:
            await self._actor.begin_verb()
            forbid(frame, "checkpoint", _ONLY_RUN, "it is committed when it returns")
            await self._actor.end_turn()

        return self._verb("checkpoint", begin)

    def restart(self) -> Verb[None]:
        async def begin(frame: Frame) -> None:
            actor = self._actor
            await actor.begin_verb()
            forbid(frame, "restart", _ONLY_RUN, "set a field, and let run restart itself")
            actor.turn.passes = actor.history.passes + 1
            actor.turn.forgotten = run_keys(actor.history.names)
            await actor.commit_turn()
            raise Restarted("run begins anew")

        return self._verb("restart", begin)

    @property
    def connections(self) -> _Connections:
        frame_of(self._actor, "connections")
        return _Connections(self._actor)


async def send(
    actor: Actor, frame: Frame, data: Sequence[Any], session: PublicName | None, once: str | None
) -> None:
    """Send updates, as part of the turn, or at once from a step."""
    if frame.kind is Kind.STEP and session is None and once is None:
        await send_progress(actor, data)
        return
    await actor.begin_verb()
    limit = actor.around.limits.data_bytes
    try:
        entries = [NewUpdate(pack(value, limit_bytes=limit), session) for value in data]
    except RequestError:
        if frame.kind is Kind.RUN:
            actor.roll_back()
        raise
    if frame.kind is Kind.STEP:
        if once is not None:
            raise UsageError("send_update(once=): not in a step, which may run twice: send it after the step")
        await actor.commit_aside(Turn(entries=list(entries)))
        return
    if once is None or _first(actor, frame, once):
        actor.turn.entries += entries
    if frame.kind is Kind.RUN:
        await actor.end_turn()


def _first(actor: Actor, frame: Frame, once: str) -> bool:
    """Whether nothing was sent under this name; notes that something is. A handler's names end with its turn."""
    key = frame.scope.use(once)
    recorded = actor.history.names.get(key)
    if recorded is not None:
        recall("send_update", once, recorded)
        return False
    if frame.kind is Kind.RUN:
        actor.turn.names[key] = record("send_update", None, actor.around.limits.data_bytes, once)
    return True


async def end(actor: Actor, frame: Frame, verb: str, how: NewEnd) -> None:
    """End the transaction: at once in `run`, with its return in a handler."""
    await actor.begin_verb()
    forbid(frame, verb, _NO_STEP, "return from the step first")
    if actor.turn.end is not None:
        raise UsageError(f"{verb}: {frame.hook} has ended the transaction already")
    actor.turn.end = how
    if frame.kind is not Kind.HANDLER:
        await actor.commit_turn()
        raise Finished("the transaction is over")


def _text(message: object) -> str:
    if not is_text(message) or not isinstance(message, str):
        raise UsageError("the message must be a text")
    return message


class _Connections:
    """The connected sessions, read from the store when they are iterated over."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    async def __aiter__(self) -> AsyncIterator[Connection]:
        store, tx = self._actor.around.store, self._actor.tx
        rows, total = await persist(lambda: store.sessions(tx, _PAGE))
        if total > len(rows):
            rows, _ = await persist(lambda: store.sessions(tx, total))
        for row in rows:
            yield ActorConnection(self._actor, row.session, True, row.subject)

    async def all(self) -> list[Connection]:
        return [connection async for connection in self]


class ActorConnection(Connection):
    """A session, for a hook."""

    def __init__(self, actor: Actor, session: PublicName | None, resumed: bool, subject: str | None) -> None:
        self._actor = actor
        self._session = session
        self.session = session
        self.resumed = resumed
        self.subject = subject

    @property
    def sync(self) -> SyncConnection:  # type: ignore[override]  # it is read only
        return _SyncConnection(self)  # kept, the two would hold each other

    def send(self, data: Any) -> Verb[None]:
        actor = self._actor
        frame = frame_of(actor, "send")
        check_task(frame, "connection.send")
        values = () if self._session is None else (data,)
        return Verb(frame, "send", lambda: send(actor, frame, values, self._session, None))

    def reject(self, message: str) -> None:
        frame = frame_of(self._actor, "reject")
        text = _text(message)
        if frame.hook == "on_update":
            frame.rejected = text
            raise Refused(text)
        if frame.hook != "on_new_connection":
            raise UsageError("reject: only in on_update and on_new_connection")
        if self._session is not None:
            self._actor.turn.barred.append((self._session, text))


class _SyncConnection(SyncConnection):
    def __init__(self, connection: ActorConnection) -> None:
        self._connection = connection

    def send(self, data: Any) -> None:
        blocking("send", lambda: self._connection.send(data))


class _SyncTransaction(SyncTransaction):
    """Each verb is built and awaited by the hook's own task; the thread waits."""

    def __init__(self, transaction: ActorTransaction) -> None:
        self._transaction = transaction

    def send_update(self, *data: Any, once: str | None = None) -> None:
        blocking("send_update", lambda: self._transaction.send_update(*data, once=once))

    def finish(self, result: Any = None) -> None:
        blocking("finish", lambda: self._transaction.finish(result))

    def fail(self, message: str) -> None:
        blocking("fail", lambda: self._transaction.fail(message))

    def step(
        self, name: str, fn: Callable[..., Any], *args: Any, retries: int = 0, timeout_s: float | None = None,
        backoff_s: float = 1.0, in_process: bool = False, **kwargs: Any,
    ) -> Any:  # fmt: skip
        how: dict[str, Any] = {
            "retries": retries, "timeout_s": timeout_s, "backoff_s": backoff_s, "in_process": in_process
        }  # fmt: skip
        return blocking("step", lambda: self._transaction.step(name, fn, *args, **how, **kwargs))

    def gather(self, *steps: Step[Any]) -> list[Any]:
        return blocking("gather", lambda: self._transaction.gather(*steps))

    def each(self, name: str, items: Sequence[T], body: Callable[[T], Any]) -> None:
        blocking("each", lambda: self._transaction.each(name, items, body))

    def sleep(self, name: str, seconds: float) -> None:
        blocking("sleep", lambda: self._transaction.sleep(name, seconds))

    def set_timer(self, name: str, seconds: float) -> None:
        blocking("set_timer", lambda: self._transaction.set_timer(name, seconds))

    def cancel_timer(self, name: str) -> None:
        blocking("cancel_timer", lambda: self._transaction.cancel_timer(name))

    def wait_message(self, name: str, timeout_s: float | None = None) -> Message | None:
        return blocking("wait_message", lambda: self._transaction.wait_message(name, timeout_s))

    def start(
        self, name: str, state: State | str, input: Mapping[str, Any] | None = None, *, queue: str | None = None,
        priority: int = 0, delay_s: float = 0.0,
    ) -> Child:  # fmt: skip
        return blocking(
            "start",
            lambda: self._transaction.start(name, state, input, queue=queue, priority=priority, delay_s=delay_s),
        )

    def checkpoint(self) -> None:
        blocking("checkpoint", self._transaction.checkpoint)

    def restart(self) -> None:
        blocking("restart", self._transaction.restart)

    @property
    def connections(self) -> Iterable[Connection]:
        return blocking("connections", lambda: self._transaction.connections.all())
