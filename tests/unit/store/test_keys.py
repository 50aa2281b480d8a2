from __future__ import annotations

import re

import pytest

from orbit.errors import StoreUnusable
from orbit.protocol.ids import TxId
from orbit.store.keys import SLOTS, Keys, partition_of, partition_tags, slot_of
from orbit.store.types import Spec

TX = TxId("transaction-0000001")


def test_slots_are_those_of_the_cluster_specification() -> None:
    assert slot_of("123456789") == 0x31C3


@pytest.mark.parametrize("partitions", [1, 2, 3, 16, 256, 1000, 4096])
def test_the_tags_of_partitions_lie_evenly_over_the_slots(partitions: int) -> None:
    tags = partition_tags(partitions)
    assert len(set(tags)) == partitions
    share = SLOTS / partitions
    for partition, tag in enumerate(tags):
        middle = (partition + 0.5) * share
        assert abs(slot_of(tag) - middle) <= share / 4, (partition, tag)


def test_tags_are_the_same_for_ever() -> None:
    """Another tag would be another key: what is stored couldn't be found any more."""
    assert partition_tags(4) == ("3", "2", "1", "0")
    assert partition_tags(256)[:6] == ("491", "8f", "278", "8b", "274", "bd")


def test_a_transaction_stays_in_its_partition() -> None:
    assert partition_of(TX, 256) == 240
    assert {partition_of(TxId(f"transaction-{n:08d}"), 8) for n in range(200)} == set(range(8))


def test_what_one_script_touches_lies_in_one_slot() -> None:
    keys = Keys("ns", 16)
    partition = keys.partition_of(TX)
    found = [
        *keys.both(TX), *keys.whole(partition), keys.transaction(TX), keys.partition(partition), keys.live_channel(TX),
        keys.wake_channel(partition), keys.worker_channel(partition, "w"), keys.ready(partition, Spec("q", "S", 1)),
    ]
    tags = {re.findall(r"\{(.*?)\}", key)[0] for key in found}
    assert tags == {partition_tags(16)[partition]}
    assert all(key.startswith("ns:") for key in found)


def test_a_script_s_keys_follow_from_its_prefixes() -> None:
    """As the scripts derive them: the prefix of a partition's transactions, a colon, the id."""
    keys = Keys("ns", 16)
    partition = keys.partition_of(TX)
    assert keys.both(TX) == (keys.transaction(TX), keys.partition(partition))
    assert keys.whole(partition) == (keys.partition(partition), keys.transaction(TX).removesuffix(f":{TX}"))


@pytest.mark.parametrize("namespace", ["", "a b", "a:b", "{a}", "a" * 65, "é", "a\n"])
def test_a_namespace_that_would_break_keys_is_refused(namespace: str) -> None:
    with pytest.raises(StoreUnusable, match="namespace"):
        Keys(namespace, 1)
