"""The verbs that a State's hooks call, as types. `orbit.worker` implements them.

What leaves a `run` from within is a `BaseException` outside `OrbitError`: `except Exception` doesn't swallow it.

    LeaveRun
    ├── Unloaded      the transaction goes on elsewhere, or is over: verbs called after that raise it
    ├── Finished      `finish` or `fail` was committed
    ├── Restarted     `restart` was committed
    └── Refused       `connection.reject` in `on_update`
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from enum import Enum
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class LeaveRun(BaseException):
    """Ends a hook from within. Let it pass: `finally` runs, and verbs called from there raise `Unloaded`."""


class Unloaded(LeaveRun):
    """This worker no longer runs the transaction; nothing more can be committed here."""


class Finished(LeaveRun):
    """The end was committed."""


class Restarted(LeaveRun):
    """`run` begins anew."""


class Refused(LeaveRun):
    """The message is refused; the turn leaves no trace."""


class Stop(Enum):
    """The type of `STOP`."""

    STOP = "stop"


STOP: Final = Stop.STOP
"""What the body of an `each` returns to end the loop."""

inside_step: ContextVar[bool] = ContextVar("inside_step", default=False)
"""Whether the code that runs is a step's: fields can't be assigned there."""


class Step(ABC, Generic[T_co]):
    """A step that waits to be run: `await` it, or give it to `gather`."""

    @abstractmethod
    def __await__(self) -> Any: ...


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


class SyncTransaction(ABC):
    """The verbs for plain hooks and plain steps: the same as `Transaction`'s, but they block the thread."""

    @abstractmethod
    def send_update(self, *data: Any, once: str | None = None) -> None: ...

    @abstractmethod
    def finish(self, result: Any = None) -> None: ...

    @abstractmethod
    def fail(self, message: str) -> None: ...

    @abstractmethod
    def step(self, name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any: ...

    @abstractmethod
    def gather(self, *steps: Step[Any]) -> list[Any]:
        """Each of `steps` is made by `self.transaction.step(...)`."""

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
        sync: The same verbs, blocking, for plain hooks.
    """

    id: str
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
        self, name: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Step[T]: ...

    @overload
    def step(self, name: str, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Step[T]: ...

    @abstractmethod
    def step(self, name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Step[Any]:
        """Run `fn` without the turn, record its result under `name`, and never run it again once recorded.

        `fn` is async, or plain (then it runs in a thread). It assigns no fields; it may send updates. Its effects
        outside are at-least-once. A cancelled step isn't recorded; a thread can't be stopped, its result is dropped.

        Returns:
            What `fn` returned, as it is after a recovery: JSON values plus bytes (a tuple comes back as a list).

        Raises:
            BadRequest, TooLarge: The result can't be recorded.
            Whatever `fn` raises: that isn't recorded.
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
    def checkpoint(self) -> Awaitable[None]:
        """Commit the turn, in `run`. With nothing changed nothing is written."""

    @abstractmethod
    def restart(self) -> Awaitable[None]:
        """Forget all names of `run` and begin it anew on the fields as they are. Never returns."""

    @property
    @abstractmethod
    def connections(self) -> AsyncIterable[Connection]:
        """The sessions that are connected, to be read with `async for`. A read: it ends no turn."""
