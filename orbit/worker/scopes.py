"""Names and their scopes.

What is recorded under a name belongs to a scope: `run` (with the count of its restarts), one item of an `each`, or one
inbox entry or connection change of a handler. A key is scope and name, told apart by a character that no name may hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from orbit.errors import UsageError
from orbit.protocol.ids import InboxId, PublicName
from orbit.protocol.messages import Value
from orbit.protocol.values import NESTING, check_value, is_text, pack_checked, unpack

_SEPARATOR = "\x1f"
_MARK = "\x1e"
_RUN, _EACH = "run/", "each/"
MAX_NAME = 200
"""The longest name, in characters."""


class Scope:
    """One pass over the code that uses the names: each may be used once."""

    __slots__ = ("_used", "prefix")

    def __init__(self, place: str) -> None:
        self.prefix = place + _SEPARATOR
        self._used: set[str] = set()

    def use(self, name: str) -> str:
        """The key of `name`. Raises UsageError for a name that is none, or was used before in this pass."""
        check_name(name)
        return self.use_key(self.prefix + name, name)

    def use_apart(self, purpose: str, name: str) -> str:
        """As `use`, for a second thing of the same name (its cancelling, its end)."""
        check_name(name)
        return self.use_key(f"{self.prefix}{name}{_MARK}{purpose}", name)

    def use_key(self, key: str, name: str) -> str:
        """Note that a key is used. Raises UsageError where it was before, in this pass."""
        if key in self._used:
            raise UsageError(f"the name {name!r} is used twice in one pass: what it records would be mixed up")
        self._used.add(key)
        return key

    def keys(self, recorded: Iterable[str]) -> tuple[str, ...]:
        """Those of `recorded` that are this scope's."""
        return tuple(key for key in recorded if key.startswith(self.prefix))


def run_scope(passes: int) -> Scope:
    return Scope(f"{_RUN}{passes}")


def item_scope(passes: int, loop: str, index: int) -> Scope:
    return Scope(f"{_EACH}{passes}/{index}/{loop}")


def entry_scope(entry: InboxId) -> Scope:
    return Scope(f"inbox/{entry}")


def change_scope(session: PublicName, place: str) -> Scope:
    return Scope(f"change/{session}/{place}")


CANCEL_SCOPE = "cancel"


def cancel_scope() -> Scope:
    return Scope(CANCEL_SCOPE)


def sleep_member(key: str) -> str:
    """The timer of a sleep."""
    return f"s/{key}"


def wait_member(key: str) -> str:
    """The timer of a `wait_message`."""
    return f"w/{key}"


def end_key(key: str) -> str:
    """Under which the end of the child is recorded that `key` names."""
    return f"{key}{_MARK}end"


def is_of_run(key: str, passes: int) -> bool:
    """Whether a key is one of `run` itself, in this pass."""
    return key.startswith(f"{_RUN}{passes}{_SEPARATOR}")


def run_keys(recorded: Iterable[str]) -> tuple[str, ...]:
    """All that belongs to `run` and its loops: what a restart forgets."""
    return tuple(key for key in recorded if key.startswith((_RUN, _EACH)))


def check_name(name: object) -> None:
    if not is_text(name) or not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise UsageError(f"a name is a text of 1 to {MAX_NAME} printable characters, not {name!r:.80}")


def record(kind: str, value: Value, limit_bytes: int, what: str) -> bytes:
    """What is written under a name. Raises BadRequest or TooLarge."""
    check_value(value, nesting=NESTING - 1, what=what)
    return pack_checked([kind, value], limit_bytes=limit_bytes, what=what)


def recall(kind: str, name: str, packed: bytes) -> Value:
    """What was written. Raises UsageError if it was by another verb: the code is no more what it was."""
    found, value = unpack(packed)
    if found != kind:
        raise UsageError(f"the name {name!r} was recorded by {found}, not by {kind}")
    return value
