"""`fedvol site`: a hospital joins, serves, pauses, leaves, and looks at its own rules."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import signal
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedvol.cli.output import AsJson, ask_yes, emit, say
from fedvol.cli.site_options import HERE, ByOption, ReasonOption, SiteFolderOption
from fedvol.types import Json

if TYPE_CHECKING:
    from fedvol.site import SiteFolder
    from fedvol.site.doctor import Finding

app = typer.Typer(help="Take part as a hospital.", no_args_is_help=True)
policy_app = typer.Typer(help="Look at the site's own rules.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")


class Device(StrEnum):
    """Where networks run."""

    CPU = "cpu"
    CUDA = "cuda"


@app.callback()
def group() -> None:
    """Take part as a hospital."""


@app.command()
def init(
    folder: Annotated[Path, typer.Option(help="New folder for everything of the site.")],
    invitation: Annotated[
        str | None,
        typer.Option(help="The operator's line, or @FILE that holds it; else it is asked for."),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where networks will run.")] = Device.CPU,
    as_json: AsJson = False,
) -> None:
    """Make a site: its keys, whom it trusts, and its site.toml; nothing is sent.

    Without --invitation the line is asked for, so that it stands in no history of a shell.
    """
    from fedvol.site import SiteFolder, init_site

    line = _invitation_line(invitation)
    made = init_site(SiteFolder(folder=folder), line, device=device.value, now=datetime.now(UTC))
    say(f"Site {made.site} of {made.consortium} is in {folder}. Its server: {made.server}")
    say(f"Fingerprint, to be read out to the operator by telephone: {made.fingerprint}")
    say(f"Next: look through {folder / 'site.toml'}, then: fedvol site enrol --folder {folder}")
    if as_json:
        emit(
            {
                "folder": str(folder),
                "site": made.site,
                "consortium": made.consortium,
                "server": made.server,
                "fingerprint": made.fingerprint,
            }
        )


@app.command()
def enrol(
    folder: SiteFolderOption = HERE,
    invitation: Annotated[
        str | None,
        typer.Option(help="A new line in place of one that was lost or too old, or @FILE."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hand the site's public keys to the server, with the token of the invitation."""
    from fedvol.identity import client_context
    from fedvol.site import SiteFolder, enrol_site, take_invitation
    from fedvol.transport.network.site_calls import SiteCalls
    from fedvol.types import SiteId

    held, now = SiteFolder(folder=folder), datetime.now(UTC)
    config = held.config()
    if invitation is not None:
        take_invitation(held, _invitation_line(invitation), now=now)
    calls = SiteCalls(
        config.server,
        tls=client_context(held.authority_pem()),
        key=held.identity(),
        site=SiteId(config.site),
        proxy=held.proxy_url(config),
    )
    with closing(calls):
        done = enrol_site(held, calls, now=now)
    say(f"The server holds the keys of {done.site} and waits for the consortium's root.")
    say(f"Read this fingerprint out to the operator, by telephone: {done.fingerprint}")
    say("Next: fedvol data add, then: fedvol site start")
    if as_json:
        emit({"site": done.site, "status": "waiting", "fingerprint": done.fingerprint})


@app.command()
def start(
    folder: SiteFolderOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Serve until ended by SIGTERM or Ctrl-C: roster, proposals, cases, and approved runs.

    The process listens on no port; it calls the server alone.
    """
    from fedvol.cli.site_view import Told
    from fedvol.site import SiteFolder, site_identity

    held = SiteFolder(folder=folder)
    who = site_identity(held)  # a wrong file is told before the heavy libraries load
    from fedvol.client.hospital import serve_hospital
    from fedvol.telemetry import set_up_logging

    set_up_logging(sys.stderr)
    say(f"Site {who.site} serves; server {who.server}. Its fingerprint: {who.fingerprint}")
    stop = threading.Event()

    def end(number: int, frame: object) -> None:
        del number, frame
        if not stop.is_set():  # a second signal does not disturb the leaving
            stop.set()
            raise SystemExit(0)

    before = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        serve_hospital(held, observer=Told(), stop=stop)
    except SystemExit:
        say("Ended. What was under way goes on with the next start.")
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    if as_json:
        emit({"site": who.site, "ended": True})


@app.command()
def status(folder: SiteFolderOption = HERE, as_json: AsJson = False) -> None:
    """Say how the site stands: identity, roster, link, cases, work, answers waiting."""
    from fedvol.cli.site_view import site_status, status_lines
    from fedvol.site import SiteFolder

    said = site_status(SiteFolder(folder=folder), now=datetime.now(UTC))
    say("\n".join(status_lines(said)))
    if as_json:
        emit(said)


@app.command()
def pause(
    folder: SiteFolderOption = HERE,
    by: ByOption = "",
    reason: ReasonOption = "",
    as_json: AsJson = False,
) -> None:
    """Answer no request until `resume`; nothing leaves meanwhile."""
    from fedvol.site import SiteFolder, user_name
    from fedvol.site import pause as pause_site

    held = SiteFolder(folder=folder)
    held.require_site()
    pause_site(held, by=by or user_name(), reason=reason, now=datetime.now(UTC))
    site = _name(held)
    say(f"Site {site} is paused. Go on with: fedvol site resume --folder {folder}")
    if as_json:
        emit({"site": site, "paused": True})


@app.command()
def resume(
    folder: SiteFolderOption = HERE,
    by: ByOption = "",
    reason: ReasonOption = "",
    as_json: AsJson = False,
) -> None:
    """Answer requests again."""
    from fedvol.site import SiteFolder, user_name
    from fedvol.site import resume as resume_site

    held = SiteFolder(folder=folder)
    config = held.config()
    was = resume_site(held, by=by or user_name(), reason=reason)
    say(f"Site {config.site} {'goes on' if was else 'was not paused'}.")
    if as_json:
        emit({"site": config.site, "paused": False})


@app.command()
def leave(
    folder: SiteFolderOption = HERE,
    by: ByOption = "",
    reason: ReasonOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw every approval and answer nothing any more; nothing is deleted.

    The keys hold until the root has revoked the site: ask the operator for that.
    """
    from fedvol.site import SiteFolder, leave_site, user_name

    held = SiteFolder(folder=folder)
    held.require_site()
    site = _name(held)
    if not yes:
        ask_yes(f"Withdraw every approval of {site}?", command="fedvol site leave")
    withdrawn = leave_site(held, by=by or user_name(), reason=reason, now=datetime.now(UTC))
    say(f"Site {site} is paused, and {len(withdrawn)} approvals are withdrawn.")
    say("The running process brings that to the server; end it when `fedvol site status` says so.")
    say("Then ask the operator to have the site revoked. Data and logs stay where they are.")
    if as_json:
        emit({"site": site, "withdrawn": list[Json](withdrawn)})


@app.command()
def doctor(
    folder: SiteFolderOption = HERE,
    study: Annotated[
        str | None,
        typer.Option(help="Check the cases for it too: a study file, a plan, or a proposal."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for whatever keeps this site from taking part; each finding names its fix.

    Nothing is changed. The exit status is 1 if something is wrong.
    """
    from fedvol.cli.site_view import examine_site
    from fedvol.site import SiteFolder
    from fedvol.site.doctor import Verdict

    rows: list[Json] = []
    wrong = 0
    for found in examine_site(SiteFolder(folder=folder), study=study, now=datetime.now(UTC)):
        say(f"{found.verdict.value:5}  {found.name}: {found.what}. {found.fix}".rstrip())
        rows.append(_fields(found))
        wrong += found.verdict is Verdict.WRONG
    say(f"{wrong} of {len(rows)} checks found something wrong." if wrong else "Nothing is wrong.")
    if as_json:
        emit({"findings": rows, "wrong": wrong})
    if wrong:
        raise typer.Exit(1)


@app.command()
def receipts(folder: SiteFolderOption = HERE, as_json: AsJson = False) -> None:
    """List the server's signed words that contributions of this site were taken."""
    from fedvol.site import SiteFolder
    from fedvol.store import SiteStore

    held = SiteFolder(folder=folder)
    held.require_site()
    rows: list[Json] = []
    with SiteStore(held.store_file) as store:
        for one in store.receipts():
            say(f"run {one.run}, stage {one.stage}, round {one.round}: answer {one.answer[:16]}")
            rows.append(
                {
                    "run": one.run,
                    "stage": one.stage,
                    "round": one.round,
                    "attempt": one.attempt,
                    "answer": one.answer,
                    "signed": one.signed,
                }
            )
    if not rows:
        say("No receipt yet: the server gives one for each round that it closes.")
    if as_json:
        emit({"receipts": rows})


@app.command()
def schema(as_json: AsJson = False) -> None:
    """Print the reference of site.toml, every key with its meaning, as Markdown."""
    from fedvol.config.reference import site_reference

    if as_json:
        emit({"markdown": site_reference()})
    else:
        print(site_reference(), end="")


@policy_app.callback()
def policy_group() -> None:
    """Look at the site's own rules."""


@policy_app.command("check")
def policy_check(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A study file, a plan's JSON, or a proposal.")
    ],
    folder: SiteFolderOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Say what this site's policy makes of a study, every rule at once.

    STUDY is a study file (.toml), a plan as JSON (.json), or the name of a proposal. The exit
    status is 4 if the policy forbids it.
    """
    from fedvol.cli.site_view import content_of
    from fedvol.errors import PolicyRefusedError
    from fedvol.site import SiteFolder, violations

    held = SiteFolder(folder=folder)
    if against := violations(content_of(held, study), held.config()):
        raise PolicyRefusedError(study, against)
    say(f"{study}: the policy allows it.")
    if as_json:
        emit({"study": study, "allowed": True})


def _name(held: "SiteFolder") -> str:
    """The site's name; its folder's where `site.toml` cannot be read."""
    from fedvol.errors import ConfigError

    try:
        return held.config().site
    except ConfigError:
        return held.folder.resolve().name


def _fields(found: "Finding") -> dict[str, Json]:
    return {
        "name": found.name,
        "verdict": found.verdict.value,
        "what": found.what,
        "fix": found.fix,
    }


def _invitation_line(given: str | None) -> str:
    from fedvol.errors import InvitationError

    if given is None:
        print("Invitation (one line, from the operator): ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline()
    if not given.startswith("@"):
        return given
    path = Path(given[1:])
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvitationError(
            str(path), "the file cannot be read", "Check the path and its permissions."
        ) from error
