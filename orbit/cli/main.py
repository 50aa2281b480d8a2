"""The command `orbit`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from orbit.cli import demo, durability, look, schedules, servers, snapshots, talk, tokens, verify
from orbit.cli.failures import INTERRUPTED, tell

app = typer.Typer(
    help="Long jobs that people watch: workers run States, edges show their updates, Redis stands between.",
    epilog="Every option is an environment variable, too: --lease-s is ORBIT_LEASE_S. One on the line goes before it.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Command = Callable[..., None]
SERVERS: tuple[Command, ...] = (servers.dev, servers.worker, servers.edge)
VERBS: tuple[Command, ...] = (
    talk.start, talk.tail, talk.send, talk.cancel, talk.retry, talk.result, look.ls, look.show,
    schedules.schedules, schedules.schedule, schedules.unschedule, durability.durability, demo.demo,
    verify.verify,
)  # fmt: skip
TOKENS: tuple[Command, ...] = (tokens.token, tokens.keys)
OF_ONE: frozenset[Command] = frozenset({talk.tail, talk.send, talk.cancel, talk.retry, talk.result, look.show})
"""Their id, or DATA, may begin with `-`: what is no option of theirs is an argument."""

for command in SERVERS + VERBS + TOKENS:
    app.command(context_settings={"ignore_unknown_options": command in OF_ONE})(command)
app.add_typer(snapshots.app, name="snapshots")
app.command(hidden=True)(servers.alone)


def _version(asked: bool) -> None:
    if asked:
        print(importlib.metadata.version("orbit-broker"))
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _orbit(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the status to exit with. Whatever can't be done is one line on stderr."""
    try:
        status = app(list(arguments), prog_name="orbit", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # whoever read this has enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # whatever it is, it is told in one line
        return tell(error)
    return status if isinstance(status, int) else 0
