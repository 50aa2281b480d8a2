"""What a command that can't do what was asked says, and the status that it exits with.

0  done
1  it can't be done: one line on stderr says why
2  the command line itself is wrong
3  a State can't work as it is written, or APP can't be loaded: trying again is of no use
4  this Redis can't hold a deployment: trying again is of no use
130, 143  interrupted
"""

from __future__ import annotations

import os
import sys
import traceback

from typer.exceptions import TyperException

from orbit.errors import DefinitionError, OrbitError, RequestError, StoreUnusable, TransactionFailed

DONE, FAILED, USAGE, DEFINITION, UNUSABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130


class CommandError(OrbitError):
    """A command can't do what was asked; the text is the line that says so."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def one_line(text: object) -> str:
    """`text` without line breaks."""
    return " ".join(str(text).split())


def status_of(error: BaseException) -> int:
    """The status to exit with after `error`."""
    if isinstance(error, TyperException):
        return error.exit_code
    if isinstance(error, CommandError):
        return error.status
    if isinstance(error, DefinitionError):
        return DEFINITION
    return UNUSABLE if isinstance(error, StoreUnusable) else FAILED


def line_of(error: BaseException) -> str:
    """The one line that tells of `error`."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return line_of(error.exceptions[0])
    if isinstance(error, TyperException):
        return one_line(error.format_message())
    if isinstance(error, RequestError):
        return one_line(f"{error.code}: {error.message}")
    if isinstance(error, TransactionFailed):
        kind = "" if error.type in (None, error.status) else f"{error.type}: "
        return one_line(f"{error.status}: {kind}{error.message}")
    if isinstance(error, OrbitError):
        return one_line(error)
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    return one_line(f"unexpected {type(error).__name__}: {error} (ORBIT_TRACE=1 shows where)")


def tell(error: BaseException) -> int:
    """Say on stderr why a command failed; returns the status to exit with."""
    if os.environ.get("ORBIT_TRACE"):
        traceback.print_exception(error)
    print(f"orbit: {line_of(error)}", file=sys.stderr, flush=True)
    return status_of(error)
