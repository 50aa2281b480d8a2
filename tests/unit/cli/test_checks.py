"""The demonstration's own check finds each fault that is planted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orbit.cli.demo.checks import Arrival, Job, Seen, faults, gaps, job_of, pause_s, repeats

CHUNKS = [bytes([n]) * 10 for n in range(5)]
HASHES = tuple(hashlib.sha256(chunk).hexdigest() for chunk in CHUNKS)
JOB = Job(hashlib.sha256(b"".join(CHUNKS)).hexdigest(), HASHES)


def seen(*numbers: int) -> Seen:
    arrivals = [Arrival(n, f"{n}-{'1' * 19}", {"chunk": n, "sha256": HASHES[n - 1]}) for n in numbers]
    return Seen(arrivals, status="finished", result={"sha256": JOB.digest})


def test_all_is_well() -> None:
    assert faults("client", seen(1, 2, 3, 4, 5), JOB) == []


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ((1, 2, 4, 5), "1 updates missing"),
        ((1, 2, 3, 4), "1 updates missing"),
        ((1, 2, 2, 3, 4, 5), "1 updates repeated"),
        ((1, 3, 2, 4, 5), "1 updates out of order"),
        ((), "5 updates missing"),
    ],
)
def test_a_fault_is_found(numbers: tuple[int, ...], what: str) -> None:
    assert f"client: {what}" in faults("client", seen(*numbers), JOB)


def test_a_cursor_that_tells_another_story_than_its_data_is_found() -> None:
    jumped = seen(1, 2, 3, 4, 5)
    jumped.arrivals[2] = Arrival(3, "4-" + "1" * 19, {"chunk": 3, "sha256": HASHES[2]})
    assert gaps(jumped, JOB) == 1
    assert repeats(jumped) == 1


def test_wrong_content_is_found() -> None:
    wrong = seen(1, 2, 3, 4, 5)
    wrong.arrivals[1].data["sha256"] = HASHES[0]
    assert faults("client", wrong, JOB) == ["client: 1 chunks whose hash isn't the file's"]


def test_a_reset_is_a_fault() -> None:
    reset = seen(1, 2, 3, 4, 5)
    reset.resets = 1
    assert faults("client", reset, JOB) == ["client: 1 resets"]


def test_another_hash_is_found() -> None:
    other = seen(1, 2, 3, 4, 5)
    other.result = {"sha256": HASHES[0]}
    assert faults("client", other, JOB) == ["client: the hash of the download isn't the file's"]


@pytest.mark.parametrize("status", ["", "failed", "cancelled"])
def test_another_end_is_found(status: str) -> None:
    ended = seen(1, 2, 3, 4, 5)
    ended.status = status
    assert faults("client", ended, JOB) == [f"client: the job was seen to end as {status or 'nothing'}"]


def test_the_file_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"".join(CHUNKS))
    assert job_of(file, 10) == JOB


def test_the_pause_is_the_longest_silence_that_ended_in_the_span() -> None:
    times = seen(1, 2, 3, 4, 5)
    times.arrivals = [
        Arrival(at, arrival.cursor, arrival.data) for at, arrival in zip((0, 1, 4, 5, 11), times.arrivals, strict=True)
    ]
    assert pause_s(times, 1, 10) == 3
    assert pause_s(times, 4.5, 20) == 6
    assert pause_s(times, 20, 30) == 0
