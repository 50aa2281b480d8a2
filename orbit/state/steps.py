"""Steps as a State's code sees them: from outside (`Step`), and inside the function that one runs (`current_step`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from orbit.errors import UsageError

T_co = TypeVar("T_co", covariant=True)

inside_step: ContextVar[bool] = ContextVar("inside_step", default=False)
"""Whether the code that runs is a step's: fields can't be assigned there."""


class Step(ABC, Generic[T_co]):
    """A step that waits to be run: `await` it, or give it to `gather`."""

    @abstractmethod
    def __await__(self) -> Any: ...


class SyncCurrentStep(ABC):
    """The same for plain functions, in a thread or a process: it blocks."""

    @abstractmethod
    def send_update(self, *data: Any) -> None:
        """As `CurrentStep.send_update`."""


class CurrentStep(ABC):
    """The step whose function runs now.

    Attributes:
        name: Its name.
        key: 32 characters that name this step of this transaction for ever: the same in each attempt, after a crash and
            on another worker; another one for another item of an `each`, another message, another pass of `run`. Give
            it to what must happen once outside (an idempotency key of a payment).
        attempt: 1 for the first attempt since this worker began the step.
        sync: The same for plain functions.
    """

    name: str
    key: str
    attempt: int
    sync: SyncCurrentStep

    @abstractmethod
    def send_update(self, *data: Any) -> Awaitable[None]:
        """Send updates while the step runs (its progress), at once. An attempt that is repeated sends them again."""


_current: ContextVar[CurrentStep | None] = ContextVar("current_step", default=None)


def current_step() -> CurrentStep:
    """The step whose function runs now.

    Raises:
        UsageError: None does.
    """
    step = _current.get()
    if step is None:
        raise UsageError("current_step: no step runs here: call it in the function that a step runs")
    return step


def enter_step(step: CurrentStep) -> None:
    """From now on, in this context, `step` is the current one and fields can't be assigned."""
    _current.set(step)
    inside_step.set(True)
