"""`fedvol root`: the consortium's root, on a machine without a network."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedvol.cli.output import AsJson, ask_yes, emit, say

if TYPE_CHECKING:
    from fedvol.identity import RootFolder, Roster, RosterDraft

app = typer.Typer(
    help="Say who takes part: the consortium's root, on a machine without a network.",
    no_args_is_help=True,
)

PassphraseFile = Annotated[
    Path | None, typer.Option(help="File with the passphrase of the root's key.")
]
KeyFolder = Annotated[Path, typer.Option(help="The root's folder.")]
OutFile = Annotated[Path, typer.Option(help="New file for the signed roster.")]
Days = Annotated[int, typer.Option(min=1, max=730, help="How long the roster holds, in days.")]
Last = Annotated[
    Path | None,
    typer.Option(help="Roster handed out last, if the folder is an older backup without it."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Sign without asking.")]


@app.command()
def init(
    out: Annotated[Path, typer.Option(help="New folder for the root.")],
    consortium: Annotated[str, typer.Option(help="The consortium's name.")],
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the root's key.

    --out should be on a medium that is locked away. The folder's root.json is no secret: it goes to
    the operator of the server.
    """
    from fedvol.cli.folders import new_folder
    from fedvol.identity import RootFolder

    with new_folder(out) as folder:
        folder.chmod(0o700)
        record = RootFolder.create(
            folder, consortium=consortium, passphrase_file=passphrase_file
        ).record
    say(f"{out}: the root of {record.consortium}.")
    say(f"Fingerprint: {record.root.fingerprint}")
    if passphrase_file is None:
        say("The key has no passphrase: whoever has the folder is the root.")
    say(f"Give {out / 'root.json'} to the operator, and keep a copy of the whole folder elsewhere.")
    if as_json:
        emit(
            {
                "folder": str(out),
                "consortium": record.consortium,
                "root": record.root.hex,
                "fingerprint": record.root.fingerprint,
            }
        )


@app.command()
def sign_roster(
    draft: Annotated[Path, typer.Argument(metavar="DRAFT", help="The operator's draft.")],
    key: KeyFolder,
    out: OutFile,
    days: Days = 180,
    last: Last = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Sign the next roster, after showing what it changes.

    DRAFT is the file that the operator's server wrote. The folder keeps a copy of what is signed.
    """
    from fedvol.identity import RootFolder, RosterDraft

    _require_absent(out)
    wanted = RosterDraft.read(draft)
    with RootFolder.opened(key, passphrase_file=passphrase_file) as root:
        _sign(root, wanted, root.last(known=last), out=out, days=days, yes=yes, as_json=as_json)


@app.command()
def revoke(
    site: Annotated[str, typer.Argument(metavar="SITE", help="The site to revoke.")],
    key: KeyFolder,
    out: OutFile,
    days: Days = 180,
    last: Last = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Sign the last roster again, with one site revoked.

    SITE is the site's name in the roster. Nobody takes anything from its keys once they have the
    new roster.
    """
    from fedvol.errors import UsageError
    from fedvol.identity import RootFolder, RosterDraft

    _require_absent(out)
    with RootFolder.opened(key, passphrase_file=passphrase_file) as root:
        before = root.last(known=last)
        if before is None:
            raise UsageError(str(key), "this root has signed no roster yet", "Sign one first.")
        wanted = RosterDraft.revoking(site, last=before)
        _sign(root, wanted, before, out=out, days=days, yes=yes, as_json=as_json)


def _sign(
    root: "RootFolder",
    draft: "RosterDraft",
    last: "Roster | None",
    *,
    out: Path,
    days: int,
    yes: bool,
    as_json: bool,
) -> None:
    from fedvol.files import write_atomic
    from fedvol.identity import next_roster, roster_changes, write_moment

    consortium, now = root.record.consortium, datetime.now(UTC)
    roster = next_roster(draft, consortium=consortium, last=last, now=now, days=days)
    changes = roster_changes(last, server=roster.server, sites=roster.sites)
    says = [str(change) for change in changes] or ["Nobody joins or leaves; only the time changes."]
    held = f"{write_moment(roster.not_before)} to {write_moment(roster.not_after)}"
    say(f"Roster {roster.version} of {consortium}, {held}:")
    for line in says:
        say(f"  {line}")
    if any(change.fingerprint for change in changes):
        say("Compare each fingerprint with its owner, by telephone or in person, before you sign.")
    if not yes:
        ask_yes("Sign it?", command="fedvol root")
    signed = root.sign(roster)
    say(f"Signed. The root's own copy: {root.copy_of(roster.version)}")
    write_atomic(out, signed.to_bytes())
    say(f"For the operator: {out}")
    if as_json:
        emit(
            {
                "out": str(out),
                "consortium": consortium,
                "version": roster.version,
                "not_before": write_moment(roster.not_before),
                "not_after": write_moment(roster.not_after),
                "digest": roster.digest,
                "changes": [
                    {"kind": one.kind, "site": one.site, "fingerprint": one.fingerprint}
                    for one in changes
                ],
            }
        )


def _require_absent(out: Path) -> None:
    from fedvol.errors import UsageError

    if out.exists() or out.is_symlink():
        raise UsageError(
            f"--out {out}", "something is there already", "Name a new file for the roster."
        )
