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
    """An edit of a function, `module:Class.method` or `module:function`."""

    function: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """A bug. `within`: so many seeds, from 0 on, show it; `faults`: with these alone, where there is a choice."""

    name: str
    what: str
    edits: tuple[Lua | Code, ...]
    within: int = 50


def _one(name: str, what: str, *edits: Lua | Code, within: int = 50) -> Mutation:
    return Mutation(name, what, edits, within)


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
         Lua("commit", _CHECK.format("epoch", "epoch", "epoch", "fenced", "fenced"))),
    _one("commit: number", "a commit isn't checked against the number that it expects",
         Lua("commit", _CHECK.format("number", "number", "expected", "rewound", "another number"))),
    _one("commit: consumed", "a commit may answer a message that isn't there any more", Lua("commit", _CONSUMED)),
    _one("commit: published first", "a commit is published before it is known to be allowed",
         Lua("commit", _FENCED, _ANNOUNCED + _FENCED)),
    _one("commit: answered stays", "a message that was answered stays in the inbox",
         Lua("commit", "  redis.call('XDEL', tx .. ':inbox', ARGV[i]) -- branch: consumed\n")),
    _one("commit: encoded anew", "after an unknown outcome a commit is sent under another number",
         Code("orbit.worker.history:History._answer", "self._metrics.resent.inc()",
              "commit = __import__('dataclasses').replace(commit, number=commit.number + 1)")),
    _one("commit: unknown is done", "an unknown outcome is taken for done",
         Code("orbit.worker.history:History._answer", "self._metrics.resent.inc()",
              "return t.Done(commit.number + 1, self.head, None, 0)")),
    _one("claim: epoch again", "a claim goes on under the epoch before",
         Lua("claim", "next_epoch(m.epoch, ARGV[5])", "m.epoch or next_epoch(m.epoch, ARGV[5])")),
    _one("epoch: reused", "epochs are counted, and so come again after a rewind",
         Lua("lib/clock", "return int(us) .. digits",
             "return int(last and tonumber(string.sub(last, 1, 16)) + 1 or us) .. '000'")),
    _one("renew: owner", "a renewal asks neither for the epoch nor for the owner",
         Lua("renew", "elseif m.epoch ~= ARGV[i + 1] then", "elseif false then"),
         Lua("renew", "elseif m.status ~= 'running' or m.owner ~= worker then", "elseif m.status ~= 'running' then")),
    _one("release: unread", "what sleeps may have an unread message",
         Lua("release", "elseif unread() then", "elseif false then")),
    _one("release: rewound", "what sleeps may have been rewound",
         Lua("release", "if m.number ~= ARGV[3] then", "if false then")),
    _one("log: seq alone", "a cursor is confirmed by its seq alone",
         Lua("log", "redis.call('XRANGE', log, after, after, 'COUNT', 1)[1]",
             "redis.call('XRANGE', log, (string.match(after, '^%d+')), (string.match(after, '^%d+')))[1]")),
    _one("append: mid", "a message's mid isn't checked",
         Lua("append", "if mid ~= '' then\n  if tonumber", "if false then\n  if tonumber")),
    _one("append: place", "a message may come from a place that was taken over",
         Lua("append", "if place ~= '' and here ~= place then", "if false then")),
    _one("append: digits", "a place in the inbox has no random digits",
         Code("orbit.store.transactions:Transactions.append", "digits(18)", "'0' * 18")),
    _one("reset: forgotten", "live clients aren't told of a reset",
         Code("orbit.edge.follower:Follower.tell_reset", "self._sink.write(", "(lambda frames: None)(")),
    _one("replay: predecessor", "a live message is relayed whatever came before it",
         Code("orbit.protocol.replay:Feed._apply", "message.previous != self.head or ", "")),
    _one("recent: not swept", "what was committed lately is never compared with what was heard",
         Code("orbit.edge.recent:Recent._look", "for tx, number in changed.items():", "for tx, number in ():")),
    _one("receipt: early", "a receipt is given before the store has answered",
         Code("orbit.edge.dialogue:Dialogue._send", "async with attachment.sends.passing():",
              "self.say(Receipt(message.tx, message.mid))\n        async with attachment.sends.passing():")),
    _one("recheck: dropped", "an edge doesn't look at its sessions after Redis was away",
         Code("orbit.edge.attachment:Attachment.recheck", "last_mid < given", "False")),
    _one("scope: dropped", "a name in a handler is the same for all messages",
         Code("orbit.worker.scopes:entry_scope", 'Scope(f"inbox/{entry}")', 'Scope("inbox/")'),
         Code("orbit.worker.scopes:Scope.keys", "key for key in recorded if key.startswith(self.prefix)",
              "key for key in recorded if key.startswith(self.prefix) and not key.startswith('inbox/')")),
    _one("history: fields apart", "a commit's updates are written, its fields aren't",
         Lua("commit", "if ARGV[7] ~= '' then\n  redis.call('XADD'",
             "if ARGV[7] ~= '' and #entries == 0 then\n  redis.call('XADD'")),
    _one("keeping: WAIT after a read", "the wait for replicas, or a disk, has no write of its own in front",
         Code("orbit.store.keeping:Keeping._wait", "self._pipe.send(mark, writes=True)",
              "self._pipe.send(('PING',), writes=True)")),
    _one("keeping: no wait", "what wasn't kept in time is acknowledged all the same",
         Code("orbit.store.keeping:Keeping._wait", "return waited.connection, self._durability.missing(answers[1])",
              "return waited.connection, ''")),
    _one("trim: past the view", "the log is trimmed past the newest view",
         Lua("lib/log", "math.min(seq - keep, base, seq - 1)", "math.min(seq - keep, seq - 1)")),
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
    module = importlib.import_module(place)
    owner: Any = module
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    text = _replaced(edit, textwrap.dedent(inspect.getsource(getattr(owner, name))))
    scope: dict[str, Any] = {}
    exec(compile("from __future__ import annotations\n" + text, f"<{edit.function}>", "exec"), vars(module), scope)
    return mock.patch.object(owner, name, scope[name])
