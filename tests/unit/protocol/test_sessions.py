"""The rules of a client's session, one by one."""

from __future__ import annotations

import pytest

from orbit.protocol.messages import (
    Advance,
    Attach,
    Attached,
    Cancelled,
    End,
    Error,
    Receipt,
    Rejected,
    Reset,
    Update,
)
from orbit.protocol.sessions import (
    FOLLOWER_RETRY_S,
    RETRY_S,
    SETTLED_S,
    WINDOW,
    ClientSession,
    Fate,
    Lost,
    Refused,
    Stored,
)

TX = "t" * 16
SECRET = "s" * 16


def attached(last_mid: int = 0, cursor: str = "0") -> Attached:
    return Attached(TX, SECRET, cursor, "running", last_mid)


def rejected(mid: int, code: str, *, retry_after_ms: int | None = None, last_mid: int | None = None) -> Rejected:
    return Rejected(TX, mid, code, "why", retry_after_ms, last_mid)


def unavailable(mid: int, retry_after_ms: int | None = None) -> Error:
    return Error("unavailable", "why", TX, "send", mid, retry_after_ms)


@pytest.fixture
def session() -> ClientSession:
    """One that is attached, with nothing stored."""
    session = ClientSession(TX)
    session.on_message(attached(), 0)
    return session


def sent(session: ClientSession, now: float = 0) -> list[tuple[int, object]]:
    return [(send.mid, send.data) for send in session.due(now)]


def put(session: ClientSession, *data: object) -> list[int]:
    return [session.put(each) for each in data]


# ---- attaching


def test_a_reset_s_cursor_is_taken_with_the_reset_alone(session: ClientSession) -> None:
    """`attached` names the cursor of the reset that follows it. Should the connection break between the two, the client
    must hear the reset at its next attach: what it has seen doesn't stand any more."""
    session.on_message(Update(TX, "7-x", 1), 0)
    session.on_connection_lost()
    session.attach()
    session.on_message(attached(cursor="3-y"), 0)
    session.on_connection_lost()
    assert session.attach().after == "7-x"
    session.on_message(attached(cursor="3-y"), 0)
    session.on_message(Reset(TX, "3-y", "rewound", None, 0), 0)
    session.on_connection_lost()
    assert session.attach().after == "3-y"


def test_who_asks_for_what_is_new_learns_its_place_from_attached() -> None:
    session = ClientSession(TX, "$")
    session.attach()
    session.on_message(attached(cursor="3-y"), 0)
    session.on_connection_lost()
    assert session.attach().after == "3-y"


def test_it_attaches_with_what_it_knows(session: ClientSession) -> None:
    assert ClientSession(TX, "$").attach("token") == Attach(TX, "$", None, "token")
    session.on_message(Update(TX, "1-x", 1), 0)
    assert session.attach() == Attach(TX, "1-x", SECRET)
    assert not session.attached


def test_the_cursor_follows_entries_and_nothing_else(session: ClientSession) -> None:
    for message, cursor in (
        (Update(TX, "a", 1), "a"),
        (Advance(TX, "b"), "b"),
        (Reset(TX, "c", "trimmed", None, 0), "c"),
        (Rejected(TX, 1, "state_error", "", cursor="d"), "d"),
        (Receipt(TX, 1), "d"),
        (Cancelled(TX), "d"),
        (End(TX, "e", "finished"), "e"),
    ):
        session.on_message(message, 0)
        assert session.cursor == cursor
    assert session.over
    assert session.status == "finished"


def test_entries_before_the_answer_to_an_attach_move_nothing(session: ClientSession) -> None:
    session.attach()
    session.on_message(Update(TX, "a", 1), 0)
    session.on_message(End(TX, "b", "finished"), 0)
    assert session.cursor == "0"
    assert not session.over


def test_nothing_is_sent_before_it_is_attached() -> None:
    session = ClientSession(TX)
    put(session, "a")
    assert session.due(0) == []
    assert session.next_due() is None
    session.on_message(attached(last_mid=7), 0)
    assert sent(session) == [(8, "a")]


def test_an_error_of_the_transaction_detaches(session: ClientSession) -> None:
    session.on_message(Error("gone", "", TX), 0)
    assert not session.attached


# ---- answers


def test_a_receipt_settles_a_message(session: ClientSession) -> None:
    [ticket] = put(session, "a")
    assert sent(session) == [(1, "a")]
    assert session.due(0) == []
    assert session.on_message(Receipt(TX, 1), 0) == [Stored(ticket, 1)]
    assert session.waiting == session.unanswered == 0
    assert session.on_message(Receipt(TX, 1, True), 0) == []


def test_a_window_bounds_what_is_under_way(session: ClientSession) -> None:
    put(session, *range(WINDOW + 1))
    assert len(session.due(0)) == WINDOW
    assert session.next_due() is None
    session.on_message(Receipt(TX, 1), 0)
    assert sent(session) == [(WINDOW + 1, WINDOW)]


@pytest.mark.parametrize("code", ["overloaded", "rate_limited", "unavailable"])
def test_a_refusal_for_now_is_sent_again_when_it_says(session: ClientSession, code: str) -> None:
    put(session, "a")
    session.due(0)
    assert session.on_message(rejected(1, code, retry_after_ms=500), 10) == []
    assert session.next_due() == 10.5
    assert session.due(10.4) == []
    assert sent(session, 10.5) == [(1, "a")]
    session.on_message(rejected(1, code), 11)
    assert session.next_due() == 11 + RETRY_S


def test_what_follows_a_refused_message_goes_again_after_it(session: ClientSession) -> None:
    put(session, "a", "b", "c")
    session.due(0)
    session.on_message(rejected(1, "overloaded", retry_after_ms=500), 0)
    session.on_message(rejected(2, "out_of_order", last_mid=0), 0)
    session.on_message(rejected(3, "out_of_order", last_mid=0), 0)
    assert sent(session, 0.5) == [(1, "a"), (2, "b"), (3, "c")]


def test_a_refusal_out_of_order_alone_goes_again_soon(session: ClientSession) -> None:
    put(session, "a", "b")
    session.due(0)
    session.on_message(rejected(2, "out_of_order", last_mid=0), 0)
    assert session.next_due() == FOLLOWER_RETRY_S


def test_an_unknown_outcome_pins_mid_and_content(session: ClientSession) -> None:
    [ticket] = put(session, "a")
    session.due(0)
    assert session.on_message(unavailable(1, 500), 0) == []
    assert not session.withdraw(ticket)
    assert sent(session, 0.5) == [(1, "a")]
    assert session.on_message(Receipt(TX, 1, True), 0) == [Stored(ticket, 1)]


def test_a_refusal_for_good_frees_the_mid(session: ClientSession) -> None:
    first, second = put(session, "a", "b")
    session.due(0)
    assert session.on_message(rejected(1, "forbidden"), 0) == [Refused(first, "forbidden", "why")]
    assert session.due(100) == [], "other content under mid 1 only when all copies are answered"
    assert session.next_due() is None
    assert session.on_message(rejected(2, "out_of_order", last_mid=0), 0) == []
    assert sent(session, 1) == [(1, "b")]
    assert session.on_message(Receipt(TX, 1), 1) == [Stored(second, 1)]


@pytest.mark.parametrize("code", ["bad_request", "too_large"])
def test_an_error_that_says_it_was_never_stored_is_a_refusal(session: ClientSession, code: str) -> None:
    [ticket] = put(session, "a")
    session.due(0)
    assert session.on_message(Error(code, "why", TX, "send", 1), 0) == [Refused(ticket, code, "why")]


def test_a_refusal_for_good_of_what_may_be_stored_asks_by_an_attach(session: ClientSession) -> None:
    [ticket] = put(session, "a")
    session.due(0)
    session.on_message(unavailable(1, 0), 0)
    session.due(0)
    assert session.on_message(rejected(1, "forbidden"), 0) == []
    assert session.must_attach
    assert session.due(100) == []
    session.attach()
    assert session.on_message(attached(last_mid=1), 1) == [Stored(ticket, 1)]


def test_after_that_attach_a_refusal_for_good_is_final(session: ClientSession) -> None:
    [ticket] = put(session, "a")
    session.due(0)
    session.on_message(unavailable(1, 60_000), 0)
    session.attach()
    assert session.on_message(attached(), 1) == []
    assert sent(session, 1) == [(1, "a")], "a new attach waits for no pause of before"
    assert session.on_message(rejected(1, "forbidden"), 1) == [Refused(ticket, "forbidden", "why")]


def test_what_was_refused_as_out_of_order_is_not_stored(session: ClientSession) -> None:
    first, second = put(session, "a", "b")
    session.due(0)
    session.on_message(unavailable(2, 0), 0)
    session.due(0)
    session.on_message(rejected(2, "out_of_order", last_mid=0), 0)
    assert session.withdraw(second)
    assert session.on_message(Receipt(TX, 1), 0) == [Stored(first, 1)]


def test_what_follows_a_message_that_is_not_stored_is_not_stored(session: ClientSession) -> None:
    first, second = put(session, "a", "b")
    session.due(0)
    session.on_message(unavailable(2, 0), 0)
    assert session.on_message(rejected(1, "forbidden"), 0) == [Refused(first, "forbidden", "why")]
    assert session.withdraw(second)


def test_the_answer_to_an_older_copy_decides_nothing(session: ClientSession) -> None:
    put(session, "a", "b")
    session.due(0)
    session.on_message(rejected(1, "overloaded", retry_after_ms=0), 0)
    assert sent(session, 0) == [(1, "a"), (2, "b")], "sent again, though the first copy of b is unanswered"
    session.on_message(rejected(2, "out_of_order", last_mid=0), 0)
    assert session.due(100) == []
    assert [type(fate) for fate in session.on_message(Receipt(TX, 1), 0)] == [Stored]
    assert [type(fate) for fate in session.on_message(Receipt(TX, 2), 0)] == [Stored]


def test_a_refusal_in_the_log_tells_that_the_message_was_stored(session: ClientSession) -> None:
    [ticket] = put(session, "a")
    session.due(0)
    assert session.on_message(Rejected(TX, 1, "state_error", "", cursor="c"), 0) == [Stored(ticket, 1)]
    assert session.on_message(Receipt(TX, 1), 0) == []
    put(session, "b")
    assert sent(session) == [(2, "b")]


def test_refusals_while_it_is_not_attached_are_kept(session: ClientSession) -> None:
    put(session, "a")
    session.due(0)
    session.on_message(Error("replaced", "", TX), 0)
    assert session.on_message(rejected(1, "bad_request"), 0) == []
    session.on_message(attached(), 1)
    assert sent(session, 1) == [(1, "a")]


# ---- reconnects and rewinds


def test_after_a_reconnect_what_is_above_last_mid_goes_again(session: ClientSession) -> None:
    first, second = put(session, "a", "b")
    session.due(0)
    session.on_connection_lost()
    assert session.unanswered == 0
    put(session, "c")
    assert session.on_message(attached(last_mid=1), 1) == [Stored(first, 1)]
    assert sent(session, 1) == [(2, "b"), (3, "c")]
    assert session.on_message(Receipt(TX, 2), 1) == [Stored(second, 2)]


def test_messages_that_never_went_out_are_not_taken_for_stored_ones() -> None:
    session = ClientSession(TX, session=SECRET)
    put(session, "a")
    assert session.on_message(attached(last_mid=5), 0) == []
    assert sent(session) == [(6, "a")]


def test_a_last_mid_below_a_receipt_is_a_loss(session: ClientSession) -> None:
    tickets = put(session, "a", "b", "c")
    session.due(0)
    for mid in (1, 2):
        session.on_message(Receipt(TX, mid), 0)
    session.on_connection_lost()
    put(session, "d")
    assert session.on_message(attached(last_mid=1), 1) == [Lost(range(2, 3), (tickets[2],))]
    assert sent(session, 1) == [(2, "d")]


def test_a_reset_tells_of_a_loss_as_well(session: ClientSession) -> None:
    tickets = put(session, "a", "b")
    session.due(0)
    session.on_message(Receipt(TX, 1), 0)
    assert session.on_message(Reset(TX, "c", "rewound", None, 0), 0) == [Lost(range(1, 2), (tickets[1],))]
    assert session.must_attach, "an answer may be on its way"
    session.attach()
    session.on_message(attached(), 0)
    [late] = put(session, "d")
    assert session.due(0) == [], "the copy of b is unanswered"
    assert session.on_message(Receipt(TX, 2), 0) == [], "an answer of before decides nothing now"
    assert sent(session) == [(1, "d")]
    assert session.on_message(Receipt(TX, 1), 0) == [Stored(late, 1)]


def test_a_reset_without_loss_settles_what_is_stored(session: ClientSession) -> None:
    [ticket] = put(session, "a")
    session.due(0)
    assert session.on_message(Reset(TX, "c", "trimmed", None, 1), 0) == [Stored(ticket, 1)]
    assert not session.must_attach


def test_a_last_mid_in_a_refusal_below_a_receipt_asks_by_an_attach(session: ClientSession) -> None:
    put(session, "a", "b")
    session.due(0)
    session.on_message(Receipt(TX, 1), 0)
    session.on_message(rejected(2, "out_of_order", last_mid=0), 0)
    assert session.must_attach


# ---- withdrawing, replaced, the end


def test_only_what_cannot_be_stored_is_withdrawn(session: ClientSession) -> None:
    first, second = put(session, "a", "b")
    session.due(0)
    assert not session.withdraw(first)
    session.on_message(rejected(1, "overloaded", retry_after_ms=0), 0)
    assert session.withdraw(first)
    assert not session.withdraw(first)
    session.on_message(rejected(2, "out_of_order", last_mid=0), 0)
    assert sent(session, 1) == [(1, "b")]
    assert session.on_message(Receipt(TX, 1), 1) == [Stored(second, 1)]


def test_a_replaced_client_comes_back_once_a_minute(session: ClientSession) -> None:
    assert session.on_replaced(1)
    assert not session.attached
    session.on_message(attached(), 2)
    assert not session.on_replaced(2 + SETTLED_S - 0.1)
    assert session.on_replaced(2 + SETTLED_S)


def test_the_end_waits_for_answers(session: ClientSession) -> None:
    first, second, third = put(session, "a", "b", "c")
    session.due(0)
    session.on_message(unavailable(3, 0), 0)
    put(session, "never sent")
    assert session.on_message(End(TX, "e", "finished"), 0) == []
    assert session.due(9) == []
    assert session.next_due() is None
    assert session.on_message(Receipt(TX, 1), 0) == [Stored(first, 1)]
    fates: list[Fate] = session.on_message(rejected(2, "ended"), 0)
    assert fates == [
        Lost(range(0), (third,)),
        Refused(second, "ended", "the transaction is over"),
        Refused(4, "ended", "the transaction is over"),
    ]
    assert session.waiting == 0


def test_a_refusal_that_it_ended_waits_for_the_end(session: ClientSession) -> None:
    put(session, "a")
    session.due(0)
    assert session.on_message(rejected(1, "ended"), 0) == []
    assert session.waiting == 1
    assert [type(fate) for fate in session.on_message(End(TX, "e", "finished"), 0)] == [Refused]


# ---- a mid that has another message


def test_a_duplicate_of_what_was_never_sent_before_is_another_message(session: ClientSession) -> None:
    """Redis went back twice, and an old message took the mid: this one isn't stored, and goes out under the next."""
    first, second = put(session, "a", "b")
    assert sent(session) == [(1, "a"), (2, "b")]
    assert session.on_message(Receipt(TX, 1, duplicate=True), 0) == []
    assert session.on_message(rejected(2, "out_of_order", last_mid=1), 0) == []
    assert session.must_attach
    assert sent(session, 9) == []
    session.attach()
    assert session.on_message(attached(last_mid=1), 9) == []
    assert sent(session, 9) == [(2, "a"), (3, "b")]
    assert session.on_message(Receipt(TX, 2), 9) == [Stored(first, 2)]
    assert session.on_message(Receipt(TX, 3), 9) == [Stored(second, 3)]


def test_a_duplicate_of_what_was_sent_under_that_mid_before_is_its_own(session: ClientSession) -> None:
    """Also where the copy before went over another connection."""
    (ticket,) = put(session, "a")
    assert sent(session) == [(1, "a")]
    session.on_connection_lost()
    session.attach()
    session.on_message(attached(), 1)
    assert sent(session, 1) == [(1, "a")]
    assert session.on_message(Receipt(TX, 1, duplicate=True), 1) == [Stored(ticket, 1)]
