"""What the demonstration shows while it runs: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from orbit.cli.demo.watching import Watcher


class Stage(Protocol):
    """Where the demonstration is shown."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def say(self, text: str) -> None:
        """One line of what happens."""

    def follow(self, watchers: list[Watcher], total: int) -> None:
        """Show these from now on."""

    def refresh(self) -> None:
        """A client saw something."""


class Bars:
    """A progress bar for each client, with what happens above them."""

    def __init__(self, console: Console, stamp: Callable[[], str], edge_name: Callable[[str], str]) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[edge]}"),
            console=console,
        )
        self._stamp = stamp
        self._edge_name = edge_name
        self._bars: list[tuple[Watcher, int]] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._progress.console.print(f"{self._stamp()}  {text}")

    def follow(self, watchers: list[Watcher], total: int) -> None:
        self._bars = [(one, int(self._progress.add_task(one.name, total=total, edge=""))) for one in watchers]

    def refresh(self) -> None:
        for watcher, bar in self._bars:
            edge = self._edge_name(watcher.seen.edges[-1]) if watcher.seen.edges else ""
            self._progress.update(bar, completed=len(watcher.seen.arrivals), edge=edge)  # type: ignore[arg-type]


class Lines:
    """Plain lines: each client at each tenth of the way."""

    def __init__(self, console: Console, stamp: Callable[[], str], edge_name: Callable[[str], str]) -> None:
        self._console = console
        self._stamp = stamp
        self._edge_name = edge_name
        self._watchers: list[Watcher] = []
        self._total = 0
        self._told: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, text: str) -> None:
        self._console.print(f"{self._stamp()}  {text}")

    def follow(self, watchers: list[Watcher], total: int) -> None:
        self._watchers, self._total = watchers, total

    def refresh(self) -> None:
        for watcher in self._watchers:
            tenth = 10 * watcher.chunk // self._total
            if tenth > self._told.get(watcher.name, 0):
                self._told[watcher.name] = tenth
                self.say(f"{watcher.name}  {10 * tenth:3} %  on {self._edge_name(watcher.seen.edges[-1])}")


def stage_for(console: Console, began_s: float, edge_name: Callable[[str], str]) -> Stage:
    """The form that fits where the output goes."""

    def stamp() -> str:
        return f"{monotonic() - began_s:5.1f} s"

    return Bars(console, stamp, edge_name) if console.is_terminal else Lines(console, stamp, edge_name)
