"""`fedvol user`: who may talk to the server's operators' interface."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from fedvol.cli.operator_access import DEFAULT_ACCESS, Access, AccessFile, Operators
from fedvol.cli.output import AsJson, emit, say

app = typer.Typer(
    help="Say who may operate the server, and see what they did.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]


class Role(StrEnum):
    """What a user may do."""

    OPERATOR = "operator"
    OBSERVER = "observer"
    AUDITOR = "auditor"


@app.command()
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What they may do.")],
    out: Annotated[
        Path | None, typer.Option(help="New file for their access; else the token is shown.")
    ] = None,
    access: AccessFile = DEFAULT_ACCESS,
    as_json: AsJson = False,
) -> None:
    """Add a user. The token is given once; the server keeps no more than its SHA-256.

    NAME is theirs for good: what they do is recorded under it.
    """
    from fedvol.errors import UsageError

    if out is not None and out.exists():
        raise UsageError(str(out), "something is there already", "Name a new file.")
    operators = Operators.of(access)
    made = operators.send("PUT", f"users/{quote(name, safe='')}", {"role": role.value})
    if out is not None:
        Access(port=operators.port, user=name, token=made["token"]).write(out)
        say(f"{name}, {role}: the access is in {out}.")
        made = {key: value for key, value in made.items() if key != "token"}
    elif not as_json:
        say(f"{name}, {role}. The token, shown this once:")
        print(made["token"])
    if as_json:
        emit({**made, "out": str(out) if out else None})


@app.command("list")
def list_users(access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Show every user."""
    found = Operators.of(access).get("users")
    for one in found["users"]:
        removed = f", removed {one['removed']}" if one["removed"] else ""
        say(f"{one['name']}: {one['role']}, since {one['created']}{removed}")
    if as_json:
        emit(found)


@app.command()
def remove(name: Name, access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Let a user in no more.

    NAME stays taken.
    """
    found = Operators.of(access).send("DELETE", f"users/{quote(name, safe='')}")
    say(f"{name} is let in no more.")
    if as_json:
        emit(found)


@app.command()
def actions(access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Show what users did last, oldest first."""
    found = Operators.of(access).get("actions")
    for one in found["actions"]:
        say(f"{one['at']} {one['user'] or '?'}: {one['action']} {one['subject']}: {one['outcome']}")
    if as_json:
        emit(found)
