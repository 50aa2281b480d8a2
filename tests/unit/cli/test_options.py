"""Every option is an environment variable, too, and means the same everywhere."""

from __future__ import annotations

from typing import Any

import pytest
import typer.main

from orbit.cli.main import app

OF_THE_SHELL = {"help", "version", "install_completion", "show_completion"}
ROOT: Any = typer.main.get_command(app)
OPTIONS = [
    (name, parameter)
    for name, command in ROOT.commands.items()
    for parameter in command.params
    if parameter.param_type_name == "option" and parameter.name not in OF_THE_SHELL
]

PUBLIC = {
    "dev": {"host", "port", "workers", "redis", "reload"},
    "worker": {"redis", "concurrency", "queue", "lease-s", "drain-s", "health-port"},
    "edge": {"redis", "host", "port", "drain-s", "insecure", "token-keys", "origin"},
    "start": {"input", "id", "follow", "redis", "url"},
    "tail": {"after", "json", "redis", "url"},
    "send": {"redis", "url"},
    "cancel": {"redis", "url"},
    "result": {"redis", "url"},
    "ls": {"state", "status", "json", "redis", "url"},
    "show": {"json", "redis", "url"},
    "token": {"token-keys", "tx", "can", "ttl-s", "sub"},
    "keys": {"alg"},
    "demo": {"keep"},
}


@pytest.mark.parametrize(("command", "parameter"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_is_an_environment_variable(command: str, parameter: Any) -> None:
    long = max(parameter.opts, key=len)
    assert parameter.envvar == "ORBIT_" + long.removeprefix("--").replace("-", "_").upper()


@pytest.mark.parametrize("command", PUBLIC)
def test_the_public_options_are_there(command: str) -> None:
    found = {opt.removeprefix("--") for name, parameter in OPTIONS if name == command for opt in parameter.opts}
    assert found >= PUBLIC[command]


@pytest.mark.parametrize(("command", "parameter"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_a_switch_has_no_opposite(command: str, parameter: Any) -> None:
    assert not [opt for opt in parameter.secondary_opts if opt.startswith("--no")]
