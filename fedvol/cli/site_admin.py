"""`fedvol site-admin`: the operator's work on sites and rosters."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from pathlib import Path
from typing import Annotated

import typer

from fedvol.cli.operator_access import DEFAULT_ACCESS, AccessFile, Operators
from fedvol.cli.output import AsJson, emit, say

app = typer.Typer(help="Invite sites, and say who takes part.", no_args_is_help=True)
roster_app = typer.Typer(help="What the root signs, and what it signed.", no_args_is_help=True)
app.add_typer(roster_app, name="roster")

Site = Annotated[str, typer.Argument(metavar="SITE", help="The site's name.")]


@app.command()
def invite(site: Site, access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Make a site's invitation: one line that is shown once.

    SITE is the name it will bear. An older invitation of the same site that was not used is void.
    """
    made = Operators.of(access).send("POST", f"sites/{_part(site)}/invite")
    say(f"For {site}, until {made['expires']}; a secret until it is used:")
    if as_json:
        emit(made)
    else:
        print(made["line"])


@app.command("list")
def list_sites(access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Show every site and every open invitation."""
    found = Operators.of(access).get("sites")
    for one in found["sites"]:
        if "fingerprint" not in one:
            say(f"{one['site']}: {one['status']} (until {one['expires']})")
            continue
        notes = [
            one["status"],
            "connected" if one["online"] else "not connected",
            *(["waits for the root's signature"] if one["waits_for_root"] else []),
            f"fedvol {one['software']}" if one["software"] else "never enrolled here",
        ]
        say(f"{one['site']}: {', '.join(notes)}")
        say(f"  {one['fingerprint']}")
    if not found["sites"]:
        say("No sites yet. Invite one: fedvol site-admin invite SITE")
    if as_json:
        emit(found)


@app.command()
def suspend(site: Site, access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Let a site take no part for now; at once.

    SITE is its name. The next roster should say so too.
    """
    _want(site, "suspend", access=access, as_json=as_json)


@app.command()
def resume(site: Site, access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Let a suspended site take part again.

    SITE is its name. If the roster has it as suspended too, the root must sign another.
    """
    _want(site, "resume", access=access, as_json=as_json)


@app.command()
def remove(site: Site, access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Let a site in no more; at once. The next draft has it as revoked.

    SITE is its name.
    """
    _want(site, "remove", access=access, as_json=as_json)


@roster_app.command()
def draft(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="New file for the draft.")],
    access: AccessFile = DEFAULT_ACCESS,
    as_json: AsJson = False,
) -> None:
    """Write what the root should sign next.

    FILE goes to the root's machine: fedvol root sign-roster FILE.
    """
    import json

    from fedvol.errors import UsageError
    from fedvol.files import write_new

    found = Operators.of(access).get("roster/draft")
    try:
        write_new(out, json.dumps(found, indent=1).encode(), mode=0o644)
    except FileExistsError as error:
        raise UsageError(str(out), "something is there already", "Name a new file.") from error
    for entry in found["sites"]:
        say(f"{entry['site']}: {entry['status']}")
    say(f"{out}: for the root: fedvol root sign-roster {out}")
    if as_json:
        emit({"out": str(out), "sites": len(found["sites"])})


@roster_app.command()
def put(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The roster the root signed.")],
    access: AccessFile = DEFAULT_ACCESS,
    as_json: AsJson = False,
) -> None:
    """Bring the roster that the root signed; who takes part changes at once.

    FILE is what fedvol root sign-roster wrote.
    """
    from fedvol.errors import UsageError

    try:
        content = file.read_bytes()
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise UsageError(str(file), reason, "Check the path.") from error
    found = Operators.of(access).send("PUT", "roster", content)
    active = ", ".join(found["active"]) or "none"
    say(f"Roster {found['version']}, until {found['not_after']}. Sites that take part: {active}.")
    if as_json:
        emit(found)


def _want(site: str, verb: str, *, access: Path, as_json: bool) -> None:
    found = Operators.of(access).send("POST", f"sites/{_part(site)}/{verb}")
    takes = "takes part" if found["takes_part"] else "takes no part"
    say(f"{site} {takes}; the roster has it as {found['status']}.")
    if found["waits_for_root"]:
        say("Write the next draft for the root: fedvol site-admin roster draft FILE")
    if as_json:
        emit(found)


def _part(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
