"""The verbs that a State's hooks call, as types. `orbit.worker` implements them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from orbit.state.steps import Step

if TYPE_CHECKING:
    from orbit.state.base import State

P = ParamSpec("P")
T = TypeVar("T")


class Stop(Enum):
    """The type of `STOP`."""

    STOP = "stop"


STOP: Final = Stop.STOP
"""What the body of an `each` returns to end the loop."""


class SyncConnection(ABC):
    """The same for plain hooks: it blocks."""

    @abstractmethod
    def send(self, data: Any) -> None:
        """As `Connection.send`."""


class Connection(ABC):
    """A session, as a State sees it.

    Attributes:
        session: Its public name, the same over all its connections; None for a message without a session.
        resumed: It was connected before.
        subject: Who it belongs to, from its token; None where there is none.
        sync: The same for plain hooks.
    """

    session: str | None
    resumed: bool
    subject: str | None
    sync: SyncConnection

    @abstractmethod
    def send(self, data: Any) -> Awaitable[None]:
        """Send an update to this session alone. It has its place in the one log, and the same promise as any other.

        Without a session it does nothing. Otherwise as `Transaction.send_update`.
        """

    @abstractmethod
    def reject(self, message: str) -> None:
        """Refuse. A courtesy of the State's: access control is the token's.

        In `on_update` it raises: the turn leaves no trace and the sender gets `rejected` `forbidden` with `message`.
        In `on_new_connection` it returns, and bars the session until the transaction ends.

        Raises:
            UsageError: Called from anywhere else.
        """


@dataclass(frozen=True, slots=True)
class Message:
    """A message that `wait_message` took: its data, and who sent it."""

    data: Any
    connection: Connection


class Child(ABC):
    """A transaction that this one started.

    Attributes:
        id: Its id.
        sync: The same for a plain `run`.
    """

    id: str
    sync: SyncChild

    @abstractmethod
    def result(self) -> Awaitable[Any]:
        """Wait for the child's end and return its result; in `run` only. Recorded: it is the same after a crash.

        Raises:
            TransactionFailed: It failed or was cancelled.
        """


class SyncChild(ABC):
    """The same for a plain `run`: it blocks."""

    @abstractmethod
    def result(self) -> Any:
        """As `Child.result`."""


class SyncTransaction(ABC):
    """The verbs for plain hooks and plain steps: the same as `Transaction`'s, but they block the thread."""

    @abstractmethod
    def send_update(self, *data: Any, once: str | None = None) -> None: ...

    @abstractmethod
    def finish(self, result: Any = None) -> None: ...

    @abstractmethod
    def fail(self, message: str) -> None: ...

    @abstractmethod
    def step(
        self, name: str, fn: Callable[..., Any], *args: Any, retries: int = 0, timeout_s: float | None = None,
        backoff_s: float = 1.0, in_process: bool = False, **kwargs: Any,
    ) -> Any: ...  # fmt: skip

    @abstractmethod
    def gather(self, *steps: Step[Any]) -> list[Any]:
        """Each of `steps` is made by `self.transaction.step(...)`."""

    @abstractmethod
    def sleep(self, name: str, seconds: float) -> None:
        """As `Transaction.sleep`; a minute at most, since the thread waits."""

    @abstractmethod
    def set_timer(self, name: str, seconds: float) -> None: ...

    @abstractmethod
    def cancel_timer(self, name: str) -> None: ...

    @abstractmethod
    def wait_message(self, name: str, timeout_s: float | None = None) -> Message | None: ...

    @abstractmethod
    def start(
        self, name: str, state: State | str, input: Mapping[str, Any] | None = None, *, queue: str | None = None,
        priority: int = 0, delay_s: float = 0.0,
    ) -> Child: ...  # fmt: skip

    @abstractmethod
    def each(self, name: str, items: Sequence[T], body: Callable[[T], Any]) -> None: ...

    @abstractmethod
    def checkpoint(self) -> None: ...

    @abstractmethod
    def restart(self) -> None: ...

    @property
    @abstractmethod
    def connections(self) -> Iterable[Connection]: ...


class Transaction(ABC):
    """What a State's hooks ask of their transaction: `self.transaction`.

    In `run`, every `await` of a verb ends the turn: fields, updates and names are committed together, and while it
    waits handlers get their turns. In a handler (and in the body of an `each`) all is committed when it returns.

    Verbs belong to the hook's own task. Cancelling one (`asyncio.timeout`) first settles the commit that is under way
    and then waits for the turn; what was committed stays.

    Raises, from every verb:
        UsageError: Called where it doesn't belong, or from another task; it names what to use instead.
        Unloaded: The transaction is over, or goes on elsewhere.

    Attributes:
        id: The transaction's id.
        cancel_reason: Why it was cancelled, in `on_cancel`; None where it wasn't.
        sync: The same verbs, blocking, for plain hooks.
    """

    id: str
    cancel_reason: str | None
    sync: SyncTransaction

    @abstractmethod
    def send_update(self, *data: Any, once: str | None = None) -> Awaitable[None]:
        """Send one update for each of `data`, to all sessions, in one commit.

        Args:
            data: JSON values plus bytes; each at most `data_bytes` (1 MiB) once encoded.
            once: A name: recorded with the updates; when it is recorded already nothing is sent.

        Raises:
            BadRequest, TooLarge: The data can't be sent. In `run` the turn is rolled back.
        """

    @abstractmethod
    def finish(self, result: Any = None) -> Awaitable[None]:
        """End the transaction as finished. Never returns in `run`; in a handler it counts when that returns."""

    @abstractmethod
    def fail(self, message: str) -> Awaitable[None]:
        """End the transaction as failed, with a `message` for its clients. Otherwise as `finish`."""

    @overload
    def step(
        self, name: str, fn: Callable[..., Awaitable[T]], *args: Any, retries: int = 0, timeout_s: float | None = None,
        backoff_s: float = 1.0, in_process: bool = False, **kwargs: Any,
    ) -> Step[T]: ...  # fmt: skip

    @overload
    def step(
        self, name: str, fn: Callable[..., T], *args: Any, retries: int = 0, timeout_s: float | None = None,
        backoff_s: float = 1.0, in_process: bool = False, **kwargs: Any,
    ) -> Step[T]: ...  # fmt: skip

    @abstractmethod
    def step(
        self, name: str, fn: Callable[..., Any], *args: Any, retries: int = 0, timeout_s: float | None = None,
        backoff_s: float = 1.0, in_process: bool = False, **kwargs: Any,
    ) -> Step[Any]:  # fmt: skip
        """Run `fn` without the turn, record its result under `name`, and never run it again once recorded.

        `fn` is async, or plain (then it runs in a thread). It touches no fields; it may send updates. Its effects
        outside are at-least-once: `orbit.current_step().key` makes them safe.

        Args:
            retries: How often `fn` is called again when it raises.
            timeout_s: How long one call may take; then it counts as one that raised TimeoutError. A thread can't be
                stopped: its result is dropped.
            backoff_s: The pause before the first of the retries, doubling up to a minute, with jitter.
            in_process: Run a plain `fn` in a process of the worker's pool, for work that needs a CPU for itself. What
                goes in and comes out is pickled. At its time limit, or when the transaction leaves, that process is
                ended.
            args / kwargs: For `fn`. What has one of the names above goes in with `functools.partial`.

        Returns:
            What `fn` returned, as it is after a recovery: JSON values plus bytes (a tuple comes back as a list).

        Raises:
            BadRequest, TooLarge: The result can't be recorded.
            Whatever `fn` raised at last: that isn't recorded.

        Cancellation: isn't recorded.
        """

    @abstractmethod
    def gather(self, *steps: Step[Any]) -> Awaitable[list[Any]]:
        """Run several steps at once; each is recorded as it ends. The first error is raised when all have settled."""

    @abstractmethod
    def each(self, name: str, items: Sequence[T], body: Callable[[T], Any]) -> Awaitable[None]:
        """A durable loop, in `run`: `body(item)` is one turn, committed with the loop's place when it returns.

        A body that returns `STOP` ends the loop; one that raises leaves no trace, and the error comes out of here.

        Args:
            items: A sequence that is the same each time: a range, or a field that the loop doesn't change.
        """

    @abstractmethod
    def sleep(self, name: str, seconds: float) -> Awaitable[None]:
        """Wait, in `run` or at the beginning of an `each`'s body. The deadline is recorded under `name` when it begins:
        after a crash or a deploy it is waited for, not begun anew. A transaction that sleeps for long is unloaded.

        Args:
            seconds: From 0 on, at most ten years.
        """

    @abstractmethod
    def set_timer(self, name: str, seconds: float) -> Awaitable[None]:
        """Have `on_timer(name)` called once, after so many seconds; a timer of that name that is set already goes.

        In `run` it is recorded under `name`: once it is, this returns at once and sets nothing.

        Args:
            seconds: From 0 on, at most ten years.
        """

    @abstractmethod
    def cancel_timer(self, name: str) -> Awaitable[None]:
        """Have the timer of that name not fire any more, if it is set and hasn't been handled."""

    @abstractmethod
    def wait_message(self, name: str, timeout_s: float | None = None) -> Awaitable[Message | None]:
        """Take the oldest message, or wait for one; in `run` (or at the beginning of an `each`'s body) of a State
        without `on_update`. It is recorded under `name`, in the commit that takes it out of the inbox.

        Args:
            timeout_s: Counted from when the waiting first began, durably as with `sleep`.

        Returns:
            None: No message came in time.
        """

    @abstractmethod
    def start(
        self, name: str, state: State | str, input: Mapping[str, Any] | None = None, *, queue: str | None = None,
        priority: int = 0, delay_s: float = 0.0,
    ) -> Awaitable[Child]:  # fmt: skip
        """Start a transaction as this one's child, once, as part of the turn. It runs by itself; `result()` waits for
        it.

        A cancelled transaction cancels its children. One that finishes or fails leaves them alone.

        Args:
            name: Of the child: its id is derived from this transaction, the scope and the name.
            state: A State that holds its input; or the name of one that workers run, with its `input`.
            queue / priority: Instead of its State's queue; the higher the more urgent, from -100 to 100.
            delay_s: Not before.
        """

    @abstractmethod
    def checkpoint(self) -> Awaitable[None]:
        """Commit the turn, in `run`. With nothing changed nothing is written."""

    @abstractmethod
    def restart(self) -> Awaitable[None]:
        """Forget all names of `run` and begin it anew on the fields as they are. Never returns."""

    @property
    @abstractmethod
    def connections(self) -> AsyncIterable[Connection]:
        """The sessions that are connected, to be read with `async for`. A read: it ends no turn."""
