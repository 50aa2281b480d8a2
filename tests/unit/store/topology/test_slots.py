"""Which server holds which slot."""

from __future__ import annotations

from orbit.store.address import Server
from orbit.store.keys import SLOTS, guard_of, slot_of, slot_of_key
from orbit.store.topology.slots import SlotMap, ranges_of

A, B = Server("a", 1), Server("b", 2)


def test_what_a_node_answers() -> None:
    reply = [
        [0, 5, [b"a", 1, b"id", []], [b"replica", 9, b"id", []]],
        [6, 6, [b"", 2, b"id"]],
        [7, 7, [None, 3, b"id"]],
        [8, 8, [b"?", 4, b"id"]],
    ]
    asked = Server("asked", 9)
    assert ranges_of(reply, asked) == [(0, 5, A), (6, 6, Server("asked", 2)), (7, 7, Server("asked", 3))]


def test_a_map_is_learned_and_corrected() -> None:
    slots = SlotMap()
    assert slots.any() is None
    assert slots.servers == ()
    assert slots.replace([(0, 9, B), (10, SLOTS - 1, A)])
    assert not slots.replace([(0, 9, B), (10, SLOTS - 1, A)])
    assert (slots.holder(9), slots.holder(10), slots.any()) == (B, A, B)
    assert slots.servers == (B, A)
    assert slots.move(9, A)
    assert not slots.move(9, A)
    assert slots.holder(9) == A
    assert slots.replace([(5, 5, A)]), "what nobody holds any more has no holder"
    assert slots.holder(9) is None


def test_a_key_s_slot_is_that_of_its_tag() -> None:
    assert slot_of_key("123456789") == 0x31C3 == slot_of("123456789"), "as the cluster specification says"
    assert slot_of_key("orbit:{1f}:t:x:log") == slot_of("1f")
    assert slot_of_key("orbit:{1f}:t:{2}") == slot_of("1f")
    for whole in ("{}:x", "{x", "x}", "orbit:states"):
        assert slot_of_key(whole) == slot_of(whole)


def test_a_guard_lies_beside_what_it_guards() -> None:
    for key in ("orbit:{1f}:t:transaction-000001", "orbit:{1f}:p", "orbit:{1f}:t"):
        assert guard_of(key) == "orbit:{1f}:guard"
    assert guard_of("orbit:workers") is None
