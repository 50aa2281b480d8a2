"""A bug in a real edge, for a test that wants it found: now and then a client isn't sent what it should be.

Python imports this by itself where its directory stands in PYTHONPATH.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

EVERY = 97

if "edge" in sys.orig_argv:
    from orbit.edge.frames import Rendered
    from orbit.protocol.entries import EndEntry

    _calls = itertools.count(1)
    _frames = Rendered.frames

    def _sometimes_none(self: Rendered, told: Any, codec: Any) -> bytes:
        frames = _frames(self, told, codec)
        ends = any(isinstance(entry, EndEntry) for entry in told)  # without it a client would wait for long
        return b"" if next(_calls) % EVERY == 0 and not ends else frames

    Rendered.frames = _sometimes_none  # type: ignore[method-assign]
