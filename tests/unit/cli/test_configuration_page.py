"""The page of options is what the command line knows; `python -m tests.unit.cli.test_configuration_page` writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.unit.cli.test_options import OPTIONS

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def table() -> str:
    """Every option that means the same, once, and the commands that take it."""
    rows: dict[str, list[str]] = {}
    for command, parameter in OPTIONS:
        if not parameter.hidden:
            rows.setdefault(row(parameter), []).append(command)
    lines = ["| option | environment | what | default | commands |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"{start} {', '.join(commands)} |" for start, commands in rows.items())])


def row(parameter: Any) -> str:
    name = max(parameter.opts, key=len)
    value = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
    about = (parameter.help or "").rstrip(".").replace("|", "\\|")
    default = parameter.default
    shown = "" if parameter.is_flag or not isinstance(default, str | int | float) or default == "" else f"`{default}`"
    return f"| `{name}{value}` | `{parameter.envvar}` | {about} | {shown} |"


def written(text: str) -> str:
    """The page with its table made anew."""
    return re.sub(r"\| option \|.*?(?=\n\n|\Z)", lambda _: table(), text, count=1, flags=re.DOTALL)


def test_every_option_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert table() in text, "write it anew: python -m tests.unit.cli.test_configuration_page"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
