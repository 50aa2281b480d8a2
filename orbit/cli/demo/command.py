"""The command `orbit demo`."""

from __future__ import annotations

from typing import Annotated

from orbit.cli import options as o


def demo(
    keep: Annotated[bool, o.flag("keep", "Leave it running at the end, to be looked at, until Ctrl-C.")] = False,
    size_mb: Annotated[float, o.option("size-mb", "How large a file is downloaded.", metavar="N", least=0.1)] = 30,
) -> None:
    """Watch a real job go on while a worker and an edge are killed."""
    from orbit.cli.demo.course import run_demo  # other commands don't wait for it
    from orbit.cli.life import live

    live(lambda stop: run_demo(int(size_mb * 1_000_000), keep=keep, stop=stop))
