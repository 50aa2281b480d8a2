"""What commands print: plain where stdout or stderr is no terminal, with colour where it is."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

COLOURS = ("cyan", "magenta", "green", "yellow", "blue")


def stderr() -> Console:
    """A console on stderr that never wraps a line nor reads markup in it."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def stdout() -> Console:
    """The same on stdout."""
    return Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def note(text: str) -> None:
    """One line on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


class Voices:
    """The lines of several processes on one stderr, each with its name in front."""

    def __init__(self) -> None:
        self._console = stderr()
        self._colours: dict[str, str] = {}

    def hear(self, name: str, line: str) -> None:
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        self._console.print(Text.assemble((f"{name:>8} | ", colour), Text.from_ansi(line)))

    def say(self, text: str) -> None:
        """A line of this process's own."""
        self._console.print(Text(text, style="bold"))
