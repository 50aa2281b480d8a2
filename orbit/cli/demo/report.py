"""The table at the end of the demonstration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from orbit.cli.demo.checks import Job, Seen, gaps, pause_s, repeats


@dataclass(frozen=True, slots=True)
class Kill:
    """What was killed, when, and how far the job was."""

    what: str
    pid: int
    at_s: float
    chunk: int


def print_report(
    console: Console, kills: list[Kill], clients: dict[str, Seen], job: Job, edge_name: Callable[[str], str]
) -> None:
    """What was killed, and what each client saw."""
    killed = _table("killed", "pid", "at", "update", "longest pause")
    ends = [kill.at_s for kill in kills[1:]] + [float("inf")]
    for kill, until_s in zip(kills, ends, strict=True):
        pause = max(pause_s(seen, kill.at_s, until_s) for seen in clients.values())
        killed.add_row(kill.what, str(kill.pid), f"{kill.at_s:.1f} s", str(kill.chunk), f"{pause:.2f} s")
    saw = _table("client", "edges", "workers", "updates", "missing", "repeated", "resets", "end")
    for name, seen in clients.items():
        edges = ", then ".join(map(edge_name, seen.edges)).replace("edge ", "")
        counts = (
            seen.epochs,
            f"{len(seen.arrivals)} of {len(job.chunks)}",
            gaps(seen, job),
            repeats(seen),
            seen.resets,
        )
        saw.add_row(name, edges, *map(str, counts), seen.status or "none")
    for table in (killed, saw):
        console.print()
        console.print(table)
    console.print()


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
