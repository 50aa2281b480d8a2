"""Logging of the server processes: structlog and the standard library's loggers, as one stream on stderr."""

from __future__ import annotations

import logging
import sys

import structlog
import typer

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS = ("auto", "json", "console")


def set_up(level: str, form: str) -> None:
    """Send all logs to stderr.

    Args:
        level: One of `LEVELS`.
        form: `json`, `console`, or `auto`: console where stderr is a terminal.

    Raises:
        typer.BadParameter: An unknown level or form.
    """
    if level not in LEVELS:
        raise typer.BadParameter(f"--log-level is one of {', '.join(LEVELS)}, not {level!r}")
    if form not in FORMATS:
        raise typer.BadParameter(f"--log-format is one of {', '.join(FORMATS)}, not {form!r}")
    terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending: list[structlog.typing.Processor]
    if form == "console" or (form == "auto" and terminal):
        ending = [structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback)]
    else:
        ending = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it says at its start and end, we say ourselves
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
