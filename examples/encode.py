"""Encode a video in chunks, on all CPUs of the worker, going on after the chunks that are done whatever is killed.

    orbit dev examples/encode.py
    orbit start Encode --input '{"frames": 600}' --follow

Work that needs a CPU for itself would hold up its worker's event loop. `in_process=True` runs a step in a process of
the worker's pool (`--processes`), which also can be ended at once: at its time limit, by a cancel, by a deploy.

`gather` runs the steps of several chunks at once, and `each` makes a group of chunks one item of a durable loop: once
it is committed it isn't encoded again. What a step sends while it runs is progress: an attempt that is repeated sends
it again. What the loop sends is sent once.
"""

import hashlib
import zlib
from typing import Any

from orbit import State, current_step

AT_ONCE = 4
CHUNK_FRAMES = 60
SIDE = 160
PROGRESS_FRAMES = 20


def frame(number: int) -> bytes:
    """A picture of SIDE x SIDE gray pixels: a slope that moves."""
    return bytes((x * y // 64 + number * 3) % 256 for y in range(SIDE) for x in range(SIDE))


def encode(first: int, last: int, progress: bool) -> dict[str, Any]:
    """Encode the frames from `first` to before `last`. Plain code, in a process of its own.

    It says how many bytes that takes and their digest. A real one writes the chunk to a place that
    `current_step().key` names: a second attempt writes the same to the same place.
    """
    step = current_step()
    packer = zlib.compressobj(9)
    digest, size = hashlib.sha256(), 0
    before = bytes(SIDE * SIDE)
    for number in range(first, last):
        picture = frame(number)
        change = bytes(new - old & 255 for new, old in zip(picture, before, strict=True))
        packed = packer.compress(change)
        digest.update(packed)
        size += len(packed)
        before = picture
        if progress and (number + 1 - first) % PROGRESS_FRAMES == 0:
            step.sync.send_update({"frame": number + 1, "attempt": step.attempt})
    packed = packer.flush()
    digest.update(packed)
    return {"bytes": size + len(packed), "sha256": digest.hexdigest()}


class Encode(State, max_running=2, retries=5):
    """Encodes `frames` frames, a few chunks at a time; two such jobs run in the whole fleet, others wait."""

    frames: int = 600
    progress: bool = True
    done: int = 0
    size: int = 0
    chunks: list[str] = []

    async def run(self) -> dict[str, Any]:
        await self.transaction.each("groups", range(0, self.frames, CHUNK_FRAMES * AT_ONCE), self.group)
        whole = hashlib.sha256("".join(self.chunks).encode()).hexdigest()
        return {"frames": self.done, "bytes": self.size, "sha256": whole}

    async def group(self, first: int) -> None:
        end = min(first + CHUNK_FRAMES * AT_ONCE, self.frames)
        steps = [
            self.transaction.step(
                f"from {at}", encode, at, min(at + CHUNK_FRAMES, end), self.progress,
                in_process=True, retries=2, timeout_s=300.0,
            )
            for at in range(first, end, CHUNK_FRAMES)
        ]  # fmt: skip
        for chunk in await self.transaction.gather(*steps):
            self.chunks.append(chunk["sha256"])
            self.size += chunk["bytes"]
        self.done = end
        await self.transaction.send_update({"done": self.done, "of": self.frames, "bytes": self.size})

    def view(self) -> dict[str, int]:
        return {"done": self.done, "of": self.frames, "bytes": self.size}
