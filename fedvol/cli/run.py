"""`fedvol run`: propose, start, watch, pause, resume and stop runs over the network."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fedvol.cli.operator_access import DEFAULT_ACCESS, AccessFile, Operators, run_path
from fedvol.cli.output import AsJson, emit, say

app = typer.Typer(help="Propose runs to hospitals, start and watch them.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's name.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the run's record.")]


@app.command()
def propose(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.")],
    sites: Annotated[
        str, typer.Option(help="Sites with commas between; else all that take part.")
    ] = "",
    name: Annotated[str, typer.Option(help="The run's name; else from study and plan.")] = "",
    access: AccessFile = DEFAULT_ACCESS,
    as_json: AsJson = False,
) -> None:
    """Put a run to its sites; nothing runs before they agree and it is started.

    STUDY is the study file. Where it leaves values to the sites' data, the sites are asked for
    their fingerprints first; type the command again once these are there.
    """
    from fedvol.cli.proposing import propose_study
    from fedvol.config import load_open_study

    opened = load_open_study(study)  # a broken study is told before the heavy libraries load
    from fedvol.store import find_weights

    opened, weights = find_weights(opened, folder=study.parent)
    chosen = tuple(one.strip() for one in sites.split(",") if one.strip())
    shown = propose_study(
        opened, operators=Operators.of(access), sites=chosen, name=name, weights=weights
    )
    if as_json:
        emit(shown)


@app.command("list")
def list_runs(access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Show every run, oldest first."""
    found = Operators.of(access).get("runs")
    for one in found["runs"]:
        reason = f" ({one['reason']})" if one["reason"] else ""
        say(f"{one['run']}: {one['state']}, {one['consented']} sites agreed{reason}")
    if as_json:
        emit(found)


@app.command()
def show(run: Run, access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Show one run: who agreed, who is there, how far it is.

    RUN is its name.
    """
    from fedvol.cli.network_view import show_run

    found = Operators.of(access).get(run_path(run))
    show_run(found, stream=sys.stderr)
    if as_json:
        emit(found)


@app.command()
def watch(run: Run, access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Watch a run until it ends; Ctrl-C leaves it running.

    RUN is its name. The exit status is 5 if it did not finish, or its test figures are missing.
    """
    from fedvol.cli.network_view import ended_well, watch_run
    from fedvol.errors import FederationError

    operators = Operators.of(access)
    found = watch_run(lambda: operators.get(run_path(run)), stream=sys.stderr)
    if as_json:
        emit(found)
    if not ended_well(found):
        raise typer.Exit(FederationError.exit_status)


@app.command()
def start(run: Run, access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Start a run with the sites that agreed.

    RUN is its name. It waits its turn behind runs that were started before.
    """
    _want(run, "start", access=access, as_json=as_json)


@app.command()
def pause(
    run: Run, reason: Reason = "", access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False
) -> None:
    """Let a run wait after the round under way; nothing is lost.

    RUN is its name.
    """
    _want(run, "pause", access=access, as_json=as_json, reason=reason)


@app.command()
def resume(run: Run, access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Go on with a run that was paused, that failed, or that lacks test figures.

    RUN is its name.
    """
    _want(run, "resume", access=access, as_json=as_json)


@app.command()
def stop(
    run: Run,
    reason: Reason,
    access: AccessFile = DEFAULT_ACCESS,
    as_json: AsJson = False,
) -> None:
    """End a run for good, after the round under way.

    RUN is its name.
    """
    _want(run, "stop", access=access, as_json=as_json, reason=reason)


def _want(run: str, verb: str, *, access: Path, as_json: bool, reason: str = "") -> None:
    operators = Operators.of(access)
    found: dict[str, Any] = operators.send("POST", f"{run_path(run)}/{verb}", {"reason": reason})
    say(f"{run}: wanted {found['wanted']}, now {found['state']}.")
    if as_json:
        emit(found)
