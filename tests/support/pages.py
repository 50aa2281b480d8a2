"""The code that the docs show: its blocks, run as they stand there."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str = "python") -> list[str]:
    """The blocks of a language that a page shows."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def the_block(page: str, text: str, language: str = "python") -> str:
    """The one block of a page that holds `text`."""
    (found,) = [block for block in blocks(page, language) if text in block]
    return found


def awaits(block: str) -> bool:
    """Whether it is to be run in an async function, and is no module."""
    return re.search(r"^(async with|await) ", block, re.MULTILINE) is not None


def as_module(page: str, name: str, folder: Path) -> ModuleType:
    """A page's blocks as one module of this name, which other processes can import, too. To be unloaded."""
    code = "\n\n".join(block for block in blocks(page) if not awaits(block))
    (folder / f"{name}.py").write_text(code)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return importlib.import_module(name)


def unload(module: ModuleType) -> None:
    del sys.modules[module.__name__]
    assert module.__file__ is not None
    sys.path.remove(str(Path(module.__file__).parent))


def adapted(code: str, **real: str) -> str:
    """`code` with the addresses of this run: each must stand in it."""
    for shown, has in real.items():
        wanted = {"redis": "redis://localhost", "edge": "https://edge.example", "one": "http://edge-1:8000",
                  "two": "http://edge-2:8000"}[shown]  # fmt: skip
        assert wanted in code, code
        code = code.replace(wanted, has)
    return code


async def run_block(code: str, **names: Any) -> dict[str, Any]:
    """Run a block that awaits; returns its names."""
    body = "async def block():\n" + textwrap.indent(code, "    ") + "\n    return locals()\n"
    scope = dict(names)
    exec(compile(body, "docs", "exec"), scope)
    async with asyncio.timeout(PATIENCE_S):
        made: dict[str, Any] = await scope["block"]()
        return made


async def shell(*commands: str, env: dict[str, str], folder: Path) -> str:
    """What the commands printed, the docs' own `orbit` being this one. Raises where one fails."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    shown = await asyncio.create_subprocess_exec(
        "bash", "-e", "-c", "\n".join(commands), cwd=folder, env=os.environ | {"PATH": path} | env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await shown.communicate()
    finally:
        if shown.returncode is None:
            shown.kill()
            await shown.wait()
    assert shown.returncode == 0, err.decode()
    return out.decode()


def lines_of(block: str) -> list[str]:
    return [line.partition("   #")[0].strip() for line in block.splitlines()]
