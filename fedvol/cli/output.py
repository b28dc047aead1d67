"""Where a command's words go: people read stderr, scripts read the last line of stdout."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import json
import sys
from typing import Annotated

import typer

from fedvol.types import Json

AsJson = Annotated[
    bool, typer.Option("--json", help="End stdout with one line of JSON, for scripts.")
]
"""The option that every command has."""


def say(text: str) -> None:
    """Tell a person something."""
    print(text, file=sys.stderr, flush=True)


def emit(value: dict[str, Json]) -> None:
    """Give a script its one line of JSON."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)
