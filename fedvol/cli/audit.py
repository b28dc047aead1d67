"""`fedvol audit`: what a site wrote down about everything that left it."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from pathlib import Path
from typing import Annotated

import typer

from fedvol.cli.output import AsJson, emit, say

app = typer.Typer(help="Look at a site's audit log.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Look at a site's audit log."""


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The audit log.")],
    as_json: AsJson = False,
) -> None:
    """Check that no record of an audit log was changed, removed or moved.

    FILE is the audit log, such as OUT/sites/SITE/audit.jsonl. The exit status is 4 if its chain is
    broken. Records cut off its end show only against a count or head noted earlier.
    """
    from fedvol.privacy import verify_audit

    log = verify_audit(file)
    records = "1 record" if log.records == 1 else f"{log.records} records"
    say(f"{file}: {records}, the chain holds. Head: {log.head}")
    if as_json:
        emit({"file": str(file), "records": log.records, "head": log.head})
