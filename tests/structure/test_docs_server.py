"""The page of the server names every key, route and command that there is."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from fedvol.cli import run, server, site_admin, user
from fedvol.config import server as config

PAGE = (Path(__file__).parents[2] / "docs" / "server.md").read_text()


def keys(model: type[BaseModel], *, path: str = "") -> set[str]:
    tables = {
        "listen": [config.Listen],
        "certificate": [config.OwnAuthority, config.CertificateFiles],
        "store": [config.StoreSettings],
        "joining": [config.Joining],
        "waiting": [config.Waiting],
    }
    found: set[str] = set()
    for name in model.model_fields:
        for table in tables.get(name, []) if not path else []:
            found |= keys(table, path=f"{name}.")
        if path or name not in tables:
            found.add(f"{path}{name}")
    return found


def test_every_key_is_there_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([a-z_.]+)` \|", PAGE, re.MULTILINE))
    listed -= {"operator", "observer", "auditor"}
    assert listed == keys(config.ServerConfig)


@pytest.mark.parametrize("module", [server, site_admin, user, run])
def test_commands_have_help(module: object) -> None:
    for command in module.app.registered_commands:  # type: ignore[attr-defined]
        assert command.callback.__doc__, command
