"""A client's session against an edge that loses, repeats, refuses, delays, reconnects and rewinds.

Whatever happens: a message is stored once at most, in the order in which it was given; a fate of `Stored` is true until
the edge's store is rewound, and then it is reported; `Refused` was never stored; nobody waits for ever.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from orbit.protocol.messages import Attach, Attached, EdgeMessage, End, Error, Receipt, Rejected, Reset, Send
from orbit.protocol.sessions import ClientSession, Fate, Lost, Refused, Stored

TX = "t" * 16


@dataclass
class Edge:
    """One session's row in Redis, and one connection to it. `history` is what is stored, by mid."""

    history: list[int] = field(default_factory=list)
    ever: set[int] = field(default_factory=set)
    place: int = 0
    connection: int = 0
    attached: bool = False
    inbox: deque[tuple[int, Send | Attach]] = field(default_factory=deque)
    answers: deque[EdgeMessage] = field(default_factory=deque)

    def say(self, message: Send | Attach) -> None:
        self.inbox.append((self.connection, message))

    def drop(self) -> None:
        """The connection breaks: what is on its way to the edge may still come, answers don't."""
        self.connection += 1
        self.attached = False
        self.answers.clear()

    def take(self, how: str) -> None:
        """Judge the oldest frame that is under way."""
        connection, message = self.inbox.popleft()
        alive = connection == self.connection
        if isinstance(message, Attach):
            if alive:
                self.place, self.attached = connection, True
                self.answer(Attached(TX, "s" * 16, message.after, "running", len(self.history)))
            return
        answer = self.append(connection, message, how)
        if alive:
            self.answer(answer)

    def append(self, connection: int, send: Send, how: str) -> EdgeMessage:
        if how == "refuse":
            return Rejected(TX, send.mid, "overloaded", "", 10)
        if how == "unwritten":
            return Error("unavailable", "", TX, "send", send.mid, 10)
        if connection != self.place:
            return Rejected(TX, send.mid, "replaced", "")
        if send.mid > len(self.history) + 1:
            return Rejected(TX, send.mid, "out_of_order", "", None, len(self.history))
        if send.mid <= len(self.history):
            return Receipt(TX, send.mid, True)
        if how == "forbid":
            return Rejected(TX, send.mid, "forbidden", "")
        assert isinstance(send.data, int)
        self.history.append(send.data)
        self.ever.add(send.data)
        return Error("unavailable", "", TX, "send", send.mid, 10) if how == "unsaid" else Receipt(TX, send.mid)

    def rewind(self, keep: int, *, told: bool) -> None:
        if keep < len(self.history):
            del self.history[keep:]
            if told and self.attached:
                self.answer(Reset(TX, "0", "rewound", None, keep))

    def answer(self, message: EdgeMessage) -> None:
        self.answers.append(message)


@dataclass
class Run:
    """A client on an edge. `claims`: which ticket is believed to be stored under which mid."""

    session: ClientSession = field(default_factory=lambda: ClientSession(TX))
    edge: Edge = field(default_factory=Edge)
    now: float = 0.0
    tickets: list[int] = field(default_factory=list)
    fates: dict[int, Fate] = field(default_factory=dict)
    claims: dict[int, int] = field(default_factory=dict)

    def put(self) -> None:
        ticket = len(self.tickets) + 1
        assert self.session.put(ticket) == ticket
        self.tickets.append(ticket)

    def flush(self) -> None:
        if self.session.must_attach:
            self.edge.say(self.session.attach())
        for send in self.session.due(self.now):
            self.edge.say(send)

    def hear(self) -> None:
        if self.edge.answers:
            self.learn(self.session.on_message(self.edge.answers.popleft(), self.now))
            self.flush()

    def learn(self, fates: list[Fate]) -> None:
        for fate in fates:
            match fate:
                case Stored(ticket, mid):
                    self.decide(ticket, fate)
                    self.claims[mid] = ticket
                case Refused(ticket):
                    self.decide(ticket, fate)
                    assert ticket not in self.edge.ever
                case Lost(mids, tickets):
                    event("lost")
                    for ticket in tickets:
                        self.decide(ticket, fate)
                    for mid in mids:
                        self.claims.pop(mid)

    def decide(self, ticket: int, fate: Fate) -> None:
        assert ticket not in self.fates, "a fate is told once"
        self.fates[ticket] = fate

    def reconnect(self) -> None:
        self.edge.drop()
        self.session.on_connection_lost()
        self.edge.say(self.session.attach())

    def check(self) -> None:
        history = self.edge.history
        assert history == sorted(set(history)), "each once, in order"

    def settle(self, *, reconnect: bool) -> None:
        """From now on nothing goes wrong: everything comes to an end, and one more message finds out what was lost."""
        if reconnect:
            self.reconnect()
        self.put()
        for _ in range(10 * len(self.tickets) + 50):
            self.now += 2
            self.flush()
            while self.edge.inbox:
                self.edge.take("store")
            while self.edge.answers:
                self.hear()
        assert set(self.fates) == set(self.tickets), "every message has a fate"
        for mid, ticket in self.claims.items():
            assert self.edge.history[mid - 1] == ticket, "what is believed to be stored is"
        lost = {t for fate in self.fates.values() if isinstance(fate, Lost) for t in fate.tickets}
        unclaimed = set(self.edge.history) - set(self.claims.values())
        assert unclaimed <= lost | {t for t, fate in self.fates.items() if isinstance(fate, Stored)}


steps = st.lists(
    st.one_of(
        st.sampled_from(["put", "put", "hear", "hear", "flush", "reconnect", "wait"]),
        st.sampled_from(["burst", "all"]),
        st.tuples(st.just("take"), st.sampled_from(["store", "store", "refuse", "unwritten", "unsaid", "forbid"])),
        st.tuples(st.sampled_from(["rewind", "rewind silently"]), st.integers(0, 6)),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(steps, st.booleans())
def test_each_message_is_stored_once_or_reported(script: list[str | tuple[str, str | int]], reconnect: bool) -> None:
    run = Run()
    run.reconnect()
    for step in script:
        match step:
            case "put":
                run.put()
                run.flush()
            case "burst":
                for _ in range(4):
                    run.put()
                run.flush()
            case "all":
                while run.edge.inbox:
                    run.edge.take("store")
            case "hear":
                run.hear()
            case "flush":
                run.flush()
            case "wait":
                run.now += 0.5
            case "reconnect":
                run.reconnect()
            case ("take", str(how)):
                if run.edge.inbox:
                    run.edge.take(how)
            case ("rewind" | "rewind silently" as kind, int(keep)):
                run.edge.rewind(keep, told=kind == "rewind")
        run.check()
    run.settle(reconnect=reconnect)
    run.check()


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(0, 3))
def test_the_end_leaves_nobody_waiting(script: list[str | tuple[str, str | int]], late: int) -> None:
    run = Run()
    run.reconnect()
    for step in script:
        if step == "put":
            run.put()
            run.flush()
        elif isinstance(step, tuple) and step[0] == "take" and run.edge.inbox:
            run.edge.take(str(step[1]))
        elif step == "hear":
            run.hear()
    while run.edge.inbox:
        run.edge.take("store")
    while len(run.edge.answers) > late:
        run.hear()
    run.edge.answers.append(End(TX, "0", "finished"))
    while run.edge.answers:
        run.hear()
    if run.session.over and run.session.waiting:
        run.session.on_connection_lost()
        run.learn(run.session.end())
    assert not run.session.over or set(run.fates) == set(run.tickets)
