"""Where a command's words go: people read stderr, scripts read the last line of stdout."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import json
import sys
from typing import Annotated

import typer

from fedvol.errors import UsageError
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


def ask_yes(question: str, *, command: str) -> None:
    """Return only if a person answers `yes`, in full.

    Raises:
        UsageError: The answer is another one, or there is nobody to answer.
    """
    print(f"{question} Type yes: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise UsageError(command, "it was not confirmed", "Nothing was done; to do it, type yes.")
