"""Any loss, repeat, reordering, trim, rewind and reconnection gives the log in order, or a reset."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orbit.protocol.cursors import START, Cursor
from orbit.protocol.entries import ENDED, EndEntry, Entry, LiveMessage, LogPage, LogReset, UpdateEntry
from orbit.protocol.ids import Epoch, PublicName
from orbit.protocol.replay import Batch, Feed, Tail

ME, OTHER = PublicName("me"), PublicName("other")


@dataclass
class Log:
    """What Redis holds of one transaction, and how it answers."""

    entries: tuple[Entry, ...] = ()
    trimmed: Cursor = START
    number: int = 0
    status: str = "running"
    epoch: int = 1

    @property
    def head(self) -> Cursor:
        return self.entries[-1].cursor if self.entries else self.trimmed

    def epoch_text(self) -> Epoch:
        return Epoch(f"{self.epoch:019d}")

    def read(self, after: Cursor, limit: int) -> LogPage | LogReset:
        places = [self.trimmed, *(entry.cursor for entry in self.entries)]
        if after not in places:
            reason = "trimmed" if after.seq < self.trimmed.seq else "rewound"
            return LogReset(self.trimmed, reason, None, self.number, self.head, self.status)
        rest = self.entries[places.index(after) :]
        return LogPage(rest[:limit], self.number, self.head, self.status, len(rest) > limit)


@dataclass
class Follower:
    """A client, as it is told things, and the tail that tells it. `told`: what it has since its last reset."""

    tail: Tail
    base: Cursor
    told: list[Entry] = field(default_factory=list)
    cursor: Cursor = START
    live: bool = False
    answer: tuple[Cursor, LogPage | LogReset] | None = None
    resets: int = 0


class Replay(RuleBasedStateMachine):
    """One log, one lossy live channel, one feed and several followers that read, join, leave and come back."""

    @initialize()
    def begin(self) -> None:
        self.log = Log()
        self.saved: list[Log] = []
        self.newest_epoch = 1
        self.parents: dict[Cursor, tuple[Cursor, Entry]] = {}
        self.channel: list[LiveMessage] = []
        self.feed = Feed(START, 0, "running")
        self.feed_answer: tuple[Cursor, LogPage | LogReset] | None = None
        self.followers: list[Follower] = []

    # ---- the log

    @rule(kinds=st.lists(st.sampled_from(["all", "me", "other"]), max_size=4), whole=st.booleans())
    def commit(self, kinds: list[str], whole: bool) -> None:
        if self.log.status in ENDED:
            return
        self._write([UpdateEntry(START, b"", {"all": None, "me": ME, "other": OTHER}[kind]) for kind in kinds], whole)

    @rule(update=st.booleans())
    def end(self, update: bool) -> None:
        if self.log.status not in ENDED:
            self._write([UpdateEntry(START, b"")] * update + [EndEntry(START, "failed")], status="failed")

    @rule()
    def retry(self) -> None:
        if self.log.status in ENDED:
            self._take_over()
            self._write([], status="pending")

    @rule()
    def take_over(self) -> None:
        if self.log.status not in ENDED:
            self._take_over()

    @rule(keep=st.integers(1, 3))
    def trim(self, keep: int) -> None:
        if len(self.log.entries) > keep:
            gone, kept = self.log.entries[:-keep], self.log.entries[-keep:]
            self.log = replace(self.log, entries=kept, trimmed=gone[-1].cursor)

    @rule(back=st.integers(1, 5))
    def rewind(self, back: int) -> None:
        """Redis loses its newest writes; whoever writes next has a new epoch."""
        if not self.saved:
            return
        back = min(back, len(self.saved))
        self.log = self.saved[-back]
        del self.saved[-back:]
        self._take_over()

    def _take_over(self) -> None:
        self.newest_epoch += 1
        self.log = replace(self.log, epoch=self.newest_epoch)

    def _write(self, entries: list[Entry], whole: bool = True, status: str = "running") -> None:
        self.saved.append(self.log)
        before, epoch = self.log, self.log.epoch_text()
        new = tuple(replace(entry, cursor=Cursor(before.head.seq + i, epoch)) for i, entry in enumerate(entries, 1))
        for previous, entry in zip((before.head, *(entry.cursor for entry in new)), new, strict=False):
            self.parents[entry.cursor] = (previous, entry)
        self.log = replace(before, entries=before.entries + new, number=before.number + 1, status=status)
        told = new if whole else ()
        self.channel.append(
            LiveMessage(self.log.number, epoch, before.number, before.head, told, self.log.head, status)
        )

    # ---- the live channel

    @precondition(lambda self: self.channel)
    @rule(place=st.integers(0, 100), repeat=st.booleans())
    def hear(self, place: int, repeat: bool) -> None:
        place = 0 if place < 60 else place % len(self.channel)
        message = self.channel[place]
        if not repeat:
            del self.channel[place]
        self._relay(self.feed.on_live(message))

    @precondition(lambda self: self.channel)
    @rule(place=st.integers(0, 100))
    def lose(self, place: int) -> None:
        del self.channel[place % len(self.channel)]

    # ---- the feed

    @rule(limit=st.integers(1, 4))
    def feed_asks(self, limit: int) -> None:
        if self.feed.needs_read:
            after = self.feed.begin_read()
            self.feed_answer = (after, self.log.read(after, limit))

    @rule(fails=st.booleans())
    def feed_hears(self, fails: bool) -> None:
        if self.feed_answer is None:
            return
        (after, answer), self.feed_answer = self.feed_answer, None
        assert after == self.feed.head
        if fails:
            self.feed.read_failed()
        elif isinstance(answer, LogReset):
            self.feed.on_reset(answer)
            for follower in self.followers:
                if follower.live:
                    self._reset(follower, answer)
        else:
            for batch in self.feed.on_page(answer):
                self._relay(batch)

    @rule()
    def feed_suspects(self) -> None:
        self.feed.suspect()

    def _relay(self, batch: Batch | None) -> None:
        for follower in self.followers if batch else ():
            if follower.live:
                told = follower.tail.on_batch(batch)
                assert told is not None
                self._tell(follower, told)

    # ---- followers

    @precondition(lambda self: len(self.followers) < 4)
    @rule(session=st.sampled_from([ME, OTHER, None]), new_only=st.booleans())
    def arrive(self, session: PublicName | None, new_only: bool) -> None:
        after = self.log.head if new_only else START
        self.followers.append(Follower(Tail(after, session), after, cursor=after))

    @precondition(lambda self: self.followers)
    @rule(who=st.integers(0, 3), lost=st.integers(0, 3))
    def come_back(self, who: int, lost: int) -> None:
        """Its connection broke, with the last few entries on their way; it attaches again with its cursor."""
        follower = self.followers[who % len(self.followers)]
        lost = min(lost, len(follower.told))
        if lost:
            del follower.told[-lost:]
            follower.cursor = follower.told[-1].cursor if follower.told else follower.base
        follower.live, follower.answer = False, None
        follower.tail = Tail(follower.cursor, follower.tail.session)

    @precondition(lambda self: self.followers)
    @rule(who=st.integers(0, 3))
    def cut(self, who: int) -> None:
        """It reads slowly: cut from the live feed."""
        self.followers[who % len(self.followers)].live = False

    @precondition(lambda self: self.followers)
    @rule(who=st.integers(0, 3), limit=st.integers(1, 4))
    def asks(self, who: int, limit: int) -> None:
        follower = self.followers[who % len(self.followers)]
        if follower.live or follower.answer or follower.tail.ended or self._join(follower):
            return
        follower.answer = (follower.tail.position, self.log.read(follower.tail.position, limit))

    @precondition(lambda self: self.followers)
    @rule(who=st.integers(0, 3))
    def hears(self, who: int) -> None:
        follower = self.followers[who % len(self.followers)]
        if follower.answer is None:
            return
        (after, answer), follower.answer = follower.answer, None
        assert after == follower.tail.position
        if isinstance(answer, LogReset):
            self._reset(follower, answer)
            return
        self._tell(follower, follower.tail.on_page(answer))
        if not answer.more and not self._join(follower):
            self.feed.suspect()

    @precondition(lambda self: self.followers)
    @rule(who=st.integers(0, 3))
    def advance(self, who: int) -> None:
        follower = self.followers[who % len(self.followers)]
        if cursor := follower.tail.take_advance():
            self._check_chain(follower, cursor)
            follower.cursor = cursor

    def _join(self, follower: Follower) -> bool:
        batch = self.feed.since(follower.tail.position)
        if batch is None or follower.tail.ended:
            return False
        told = follower.tail.on_batch(batch)
        assert told is not None
        follower.live = True
        self._tell(follower, told)
        return True

    def _reset(self, follower: Follower, reset: LogReset) -> None:
        assert follower.tail.position not in [reset.cursor], "a reset for a cursor that the log confirms"
        follower.tail.on_reset(reset)
        follower.base = follower.cursor = reset.cursor
        follower.told.clear()
        follower.resets += 1

    # ---- the oracle

    def _tell(self, follower: Follower, told: tuple[Entry, ...]) -> None:
        for entry in told:
            self._check_chain(follower, entry.cursor)
            assert self._visible(follower, entry)
            follower.cursor = entry.cursor
            follower.told.append(entry)
        if follower.tail.ended:
            assert isinstance(follower.told[-1], EndEntry)
            follower.live = False

    def _visible(self, follower: Follower, entry: Entry) -> bool:
        return not isinstance(entry, UpdateEntry) or entry.session in (None, follower.tail.session)

    def _check_chain(self, follower: Follower, cursor: Cursor) -> None:
        """From its cursor to the new one, in one history, nothing that concerns it was left out."""
        place, _ = self.parents[cursor]
        while place != follower.cursor:
            assert place.seq > follower.cursor.seq, "out of order, or another history"
            place, entry = self.parents[place]
            assert isinstance(entry, EndEntry) or not self._visible(follower, entry), "an entry was left out"

    @invariant()
    def live_ones_stand_where_the_feed_stands(self) -> None:
        for follower in getattr(self, "followers", ()):
            assert not follower.live or follower.tail.position == self.feed.head

    def teardown(self) -> None:
        """When all is quiet, everyone holds the log, or the end."""
        if not hasattr(self, "log"):
            return
        self.channel.clear()
        self.feed_hears(fails=False)
        self.feed.suspect()
        while self.feed.needs_read:
            self.feed_asks(limit=2)
            self.feed_hears(fails=False)
        assert self.feed.head == self.log.head
        assert (self.feed.number, self.feed.status) == (self.log.number, self.log.status)
        for who, follower in enumerate(self.followers):
            self._settle(who, follower)
            self._check_settled(follower)

    def _settle(self, who: int, follower: Follower) -> None:
        for _ in range(1000):
            if follower.tail.ended or (follower.live and not self.feed.needs_read):
                return
            self.hears(who)
            self.asks(who, limit=2)
            self.hears(who)
            while self.feed.needs_read:
                self.feed_asks(limit=2)
                self.feed_hears(fails=False)
        raise AssertionError("a follower that never joins")

    def _check_settled(self, follower: Follower) -> None:
        if follower.tail.ended:
            return
        assert follower.tail.position == self.log.head
        later = [entry for entry in self.log.entries if entry.cursor.seq > follower.base.seq]
        kept = [entry.cursor for entry in later]
        mine = [entry.cursor for entry in later if isinstance(entry, UpdateEntry) and self._visible(follower, entry)]
        told = [entry.cursor for entry in follower.told if isinstance(entry, UpdateEntry)]
        assert [cursor for cursor in told if not kept or cursor.seq >= kept[0].seq] == mine


TestReplay = Replay.TestCase
TestReplay.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 400), st.booleans())
def test_the_slices_of_a_batch_are_the_batch(sizes: list[int], limit: int, ends: bool) -> None:
    epoch = Epoch("1" * 19)
    entries: tuple[Entry, ...] = tuple(UpdateEntry(Cursor(n, epoch), b"x" * size) for n, size in enumerate(sizes, 1))
    if ends:
        entries = (*entries, EndEntry(Cursor(len(entries) + 1, epoch), "finished"))
    batch = Batch(START, entries, over=ends)
    slices = list(batch.slices(limit))
    assert sum((part.entries for part in slices), ()) == entries
    assert [part.previous for part in slices] == [START, *(part.head for part in slices[:-1])]
    assert [part.over for part in slices] == [False] * (len(slices) - 1) + [ends]
    assert all(len(part.entries) == 1 or part.size <= limit for part in slices)
