"""`fedvol audit`: what a site or a server wrote down, checked, shown, exported and compared."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from pathlib import Path
from typing import Annotated

import typer

from fedvol.cli.output import AsJson, emit, say
from fedvol.errors import UsageError
from fedvol.types import Json

app = typer.Typer(help="Look at an audit log.", no_args_is_help=True)

LogFile = Annotated[Path, typer.Argument(metavar="FILE", help="The audit log.")]
OfRun = Annotated[str | None, typer.Option(help="Lines of this run alone.")]


@app.callback()
def group() -> None:
    """Look at an audit log."""


@app.command()
def verify(
    file: LogFile,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="PUBLIC", help="Public key of the log's owner; may be repeated."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="What --json printed for this log at an earlier day.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that no record of an audit log was changed, removed or moved.

    FILE is the audit log, such as OUT/sites/SITE/audit.jsonl. The exit status is 4 if a line does
    not fit. Records cut off its end show only with --against.
    """
    from fedvol.audit import KnownHead, verify_log
    from fedvol.cli.audit_text import counted, signed_text

    keys = [_public_key(one) for one in key or ()]
    known = KnownHead.load(against) if against else None
    log = verify_log(file, keys=keys, against=known)
    say(f"{file}: {counted(log.records, 'record')}, the chain holds. Head: {log.head}")
    say(signed_text(log, are_keys_known=bool(keys)))
    if known:
        say(f"It goes on from the {counted(known.records, 'record')} that were noted before.")
    if as_json:
        emit({"file": str(file), **log.as_json()})


@app.command()
def show(
    file: LogFile,
    run: OfRun = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Not before this day or time (UTC).")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Lines of this kind alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show an audit log as a table, and what left in all.

    FILE is the audit log. It is verified first.
    """
    from fedvol.audit import LogLine, Selection, Totals, verify_log
    from fedvol.audit.selection import parse_since
    from fedvol.cli.audit_text import as_table, totals_text

    selection = Selection(run=run, since=parse_since(since) if since else None, kind=kind)
    lines, totals, kinds = list[LogLine](), Totals(), set[str]()

    def take(line: LogLine) -> None:
        kinds.add(str(line.event.get("kind")))
        if selection.wants(line):
            lines.append(line)
            totals.add(line)

    log = verify_log(file, take=take)
    if lines:
        say(as_table(lines))
    else:
        say(f"No record fits. Kinds in this log: {', '.join(sorted(kinds)) or 'none'}.")
    say(f"\n{totals_text(totals)}")
    if as_json:
        events: list[Json] = [line.event for line in lines]
        left = totals.as_json()
        emit({"file": str(file), **log.as_json(), "left": left, "events": events})


@app.command()
def export(
    file: LogFile,
    out: Annotated[Path, typer.Option(help="New file, .csv or .json.")],
    run: OfRun = None,
    as_json: AsJson = False,
) -> None:
    """Write every field of an audit log to a file for other programs.

    FILE is the audit log. It is verified first, and the export states its head.
    """
    from fedvol.audit import Selection, export_log
    from fedvol.cli.audit_text import counted, totals_text

    log, totals, num = export_log(file, out, selection=Selection(run=run))
    say(f"{out}: {num} of {counted(log.records, 'record')}. Head: {log.head}")
    say(totals_text(totals))
    if as_json:
        left = totals.as_json()
        emit({"file": str(file), "out": str(out), "exported": num, **log.as_json(), "left": left})


@app.command()
def compare(
    site_log: Annotated[Path, typer.Argument(metavar="SITE_LOG", help="A site's log.")],
    server_log: Annotated[Path, typer.Argument(metavar="SERVER_LOG", help="The server's.")],
    as_json: AsJson = False,
) -> None:
    """Hold a site's log against the server's, message by message.

    SITE_LOG is a site's audit log, SERVER_LOG the server's. The exit status is 4 if they
    contradict each other, also where all they contradict each other in was forgotten by a server
    that was restored from a backup: that is named, and counted apart.
    """
    from fedvol.audit import compare_logs
    from fedvol.cli.audit_text import comparison_text
    from fedvol.errors import AuditError

    found = compare_logs(site_log, server_log)
    say(comparison_text(found))
    if as_json:
        emit(found.as_json())
    if found.num_contradictions:
        raise typer.Exit(AuditError.exit_status)


def _public_key(text: str) -> str:
    from fedvol.identity import PublicKey

    try:
        return PublicKey(text.strip().lower()).hex
    except ValueError as error:
        raise UsageError(
            "--key", "is no public key", "Give the 64 hexadecimal digits of the log's owner."
        ) from error
