"""Bugs to plant: each takes something out that the promise hangs on, by an edit of the product's own text.

A test plants each and sees that the simulation finds it within the number of seeds that stands here. An edit that no
longer applies is an error: whoever changes that code changes the edit.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from orbit.store import script


@dataclass(frozen=True, slots=True)
class Lua:
    """An edit of a script, or of what scripts share (`lib/...`)."""

    file: str
    old: str
    new: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """An edit of a function, `module:Class.method` or `module:function`: of the name that callers look up there."""

    function: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """A bug that runs of the seeds from 0 up to `within` show.

    `faults`: with these kinds alone (see `Weather`); where there are none, with those that each seed draws.
    """

    name: str
    what: str
    edits: tuple[Lua | Code, ...]
    within: int = 60
    faults: tuple[str, ...] = ()


def _one(name: str, what: str, *edits: Lua | Code, within: int = 60, faults: tuple[str, ...] = ()) -> Mutation:
    return Mutation(name, what, edits, within, faults)


_CHECK = """-- check: {0}
if m.{1} ~= {2} then
  return {{ '{3}' }} -- branch: {4}
end
-- end check
"""
_CONSUMED = """  -- check: consumed
  if not entry then
    return { 'rewound' } -- branch: consumed entry gone
  end
  -- end check
"""
_FENCED = "  return { 'fenced' } -- branch: fenced"
_ANNOUNCED = """  for i = 1, tonumber(ARGV[20]) do
    local at, packed = 21 + (i - 1) * 6, {}
    for field = 0, 5 do packed[field + 1] = bin(ARGV[at + (field == 5 and 5 or field)]) end
    table.insert(packed, 6, bin(''))
    packed[8] = bin(int(seq_of(m.head) + i) .. '-' .. epoch)
    announced[i] = array(packed)
  end
  local last = #announced > 0 and int(seq_of(m.head) + #announced) .. '-' .. epoch or m.head
  publish(tx, number, epoch, m.number, m.head, last, 'running')
"""

MUTATIONS: tuple[Mutation, ...] = (
    _one("commit: epoch", "a commit isn't checked against the newest epoch",
         Lua("commit", _CHECK.format("epoch", "epoch", "epoch", "fenced", "fenced")), within=100),
    _one("commit: number", "a commit isn't checked against the number that it expects",
         Lua("commit", _CHECK.format("number", "number", "expected", "rewound", "another number")),
         within=60, faults=("fail_over",)),
    _one("commit: consumed", "a commit may answer a message that isn't there any more", Lua("commit", _CONSUMED),
         within=60, faults=("fail_over",)),
    _one("commit: published first", "a commit is published before it is known to be allowed",
         Lua("commit", _FENCED, _ANNOUNCED + _FENCED), within=60, faults=("pause_worker",)),
    _one("commit: answered stays", "a message that was answered stays in the inbox",
         Lua("commit", "  redis.call('XDEL', tx .. ':inbox', ARGV[i]) -- branch: consumed\n"), within=20),
    _one("commit: encoded anew", "after an unknown outcome a commit is sent under another number",
         Code("orbit.worker.history:History._answer", "self._metrics.resent.inc()",
              "commit = __import__('dataclasses').replace(commit, number=commit.number + 1)"),
         within=60, faults=("unlucky",)),
    _one("commit: unknown is done", "an unknown outcome is taken for done",
         Code("orbit.worker.history:History._answer", "self._metrics.resent.inc()",
              "return t.Done(commit.number + 1, self.head, None, 0)"), within=100),
    _one("claim: epoch again", "a claim goes on under the epoch before",
         Lua("claim", "next_epoch(m.epoch, ARGV[5])", "m.epoch or next_epoch(m.epoch, ARGV[5])"), within=60),
    _one("epoch: reused", "epochs are counted, and so come again after a rewind",
         Lua("lib/clock", "return int(us) .. digits",
             "return int(last and tonumber(string.sub(last, 1, 16)) + 1 or us) .. '000'"),
         within=150, faults=("fail_over",)),
    _one("renew: owner", "a renewal asks neither for the epoch nor for the owner",
         Lua("renew", "elseif m.epoch ~= ARGV[i + 1] then", "elseif false then"),
         Lua("renew", "elseif m.status ~= 'running' or m.owner ~= worker then", "elseif m.status ~= 'running' then"),
         within=40),
    _one("release: unread", "what sleeps may have an unread message",
         Lua("release", "elseif unread() then", "elseif false then"), within=120),
    _one("release: rewound", "what was rewound since may be put to sleep",
         Lua("release", "if m.number ~= ARGV[3] then", "if false then"), within=100, faults=("fail_over",)),
    _one("log: seq alone", "a cursor is confirmed by its seq alone",
         Lua("log", "redis.call('XRANGE', log, after, after, 'COUNT', 1)[1]",
             "redis.call('XRANGE', log, (string.match(after, '^%d+')), (string.match(after, '^%d+')))[1]"),
         within=60, faults=("fail_over", "pause_edge", "kill_edge")),
    _one("append: mid", "a message's mid isn't checked",
         Lua("append", "if mid ~= '' then\n  if tonumber", "if false then\n  if tonumber"), within=100),
    _one("append: place", "a message may come from a place that was taken over",
         Lua("append", "if place ~= '' and here ~= place then", "if false then"),
         within=60, faults=("hold", "slow")),
    _one("append: digits", "a place in the inbox has no random digits",
         Code("orbit.store.transactions:Transactions.append", "digits(18)", "'0' * 18"),
         within=100, faults=("fail_over",)),
    _one("reset: forgotten", "live clients aren't told of a reset",
         Code("orbit.edge.follower:Follower.tell_reset", "self._sink.write(", "(lambda frames: None)("),
         within=60),
    _one("replay: predecessor", "a live message is relayed whatever came before it",
         Code("orbit.protocol.replay:Feed._apply", "message.previous != self.head or ", ""), within=40),
    _one("recent: not swept", "what was committed lately is never compared with what was heard",
         Code("orbit.edge.recent:Recent._look", "for tx, number in changed.items():", "for tx, number in ():"),
         within=60),
    _one("receipt: early", "a receipt is given before the store has answered",
         Code("orbit.edge.dialogue:Dialogue._send", "async with attachment.sends.passing():",
              "self.say(Receipt(message.tx, message.mid))\n        async with attachment.sends.passing():"),
         within=20),
    _one("scope: dropped", "a name in a handler is the same for all messages",
         Code("orbit.worker.handlers:entry_scope", 'Scope(f"inbox/{entry}")', 'Scope("inbox/")'),
         Code("orbit.worker.scopes:Scope.keys", "key for key in recorded if key.startswith(self.prefix)",
              "key for key in recorded if key.startswith(self.prefix) and not key.startswith('inbox/')")),
    _one("history: fields apart", "a commit's updates are written, its fields aren't",
         Lua("commit", "if ARGV[7] ~= '' then\n  redis.call('XADD'",
             "if ARGV[7] ~= '' and #entries == 0 then\n  redis.call('XADD'")),
    _one("keeping: no wait", "what wasn't kept in time is acknowledged all the same",
         Code("orbit.store.keeping:Keeping._wait", "return connection, self._durability.missing(answers[-1])",
              "return connection, ''"), within=150, faults=("fail_over", "break_links")),
    _one("keeping: no mark", "a wait follows what may have been a mere read",
         Code("orbit.store.keeping:Keeping._wait", "(mark, *wait)", "wait"),
         within=60, faults=("lose_answered",)),
)  # fmt: skip


@contextmanager
def planted(mutation: Mutation) -> Iterator[None]:
    """The product with the bug, while the block runs.

    Raises:
        ValueError: An edit doesn't apply.
    """
    edits = [edit for edit in mutation.edits if isinstance(edit, Lua)]
    applied: set[Lua] = set()

    def edited(name: str, text: str) -> str:
        for edit in edits:
            if edit.file == name:
                text = _replaced(edit, text)
                applied.add(edit)
        return text

    with ExitStack() as stack:
        if edits:
            for constant, one in tuple(vars(script).items()):
                if isinstance(one, script.Script):
                    source = script.read_source(one.name, edited)
                    if source != one.source:
                        changed = script.Script.of(one.name, source, writes=one.writes)
                        stack.enter_context(mock.patch.object(script, constant, changed))
        if missing := set(edits) - applied:
            raise ValueError(f"{mutation.name}: there is no {missing}")
        for edit in mutation.edits:
            if isinstance(edit, Code):
                stack.enter_context(_patched(edit))
        yield


def _replaced(edit: Lua | Code, text: str) -> str:
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.old!r} stands {text.count(edit.old)} times in {edit}")
    return text.replace(edit.old, edit.new)


def _patched(edit: Code) -> Any:
    """The function written anew."""
    place, _, path = edit.function.partition(":")
    owner: Any = importlib.import_module(place)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    function = getattr(owner, name)
    text = "from __future__ import annotations\n" + _replaced(edit, textwrap.dedent(inspect.getsource(function)))
    scope: dict[str, Any] = {}
    exec(compile(text, f"<{edit.function}>", "exec"), function.__globals__, scope)
    return mock.patch.object(owner, name, scope[name])
