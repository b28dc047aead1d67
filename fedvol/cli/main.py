"""The command `fedvol`: its tree, and what becomes of an error."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import click
import typer

import fedvol
from fedvol.cli import (
    audit,
    consent,
    data,
    model,
    root,
    run,
    server,
    simulate,
    site,
    site_admin,
    site_data,
    study,
    user,
)
from fedvol.cli.environment import prepare_environment
from fedvol.cli.output import AsJson, emit, say
from fedvol.errors import CaseTableError, FedvolError, PolicyRefusedError, StudyError, UsageError
from fedvol.types import Json

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

app = typer.Typer(
    name="fedvol",
    help="Train 3D medical imaging models across hospitals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.add_typer(audit.app, name="audit")
app.add_typer(model.app, name="model")
app.add_typer(root.app, name="root")
app.add_typer(server.app, name="server")
app.add_typer(site_admin.app, name="site-admin")
app.add_typer(run.app, name="run")
app.add_typer(user.app, name="user")
app.add_typer(site.app, name="site")
app.add_typer(consent.app, name="consent")
site_data.add_commands(data.app)
app.command()(simulate.simulate)
app.command()(simulate.demo)
app.command()(simulate.report)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedvol {fedvol.__version__}")
        raise typer.Exit


@app.callback()
def fedvol_command(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Train 3D medical imaging models across hospitals."""


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        emit({"version": fedvol.__version__})
    else:
        print(f"fedvol {fedvol.__version__}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    Args:
        arguments: Words after `fedvol`; by default the process's own.
    """
    prepare_environment()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = app(words, prog_name="fedvol", standalone_mode=False)
    except FedvolError as error:
        return _tell(error, words)
    except click.exceptions.NoArgsIsHelpError:  # the help is on the screen by now
        return UsageError.exit_status
    except click.ClickException as error:
        return _tell(_usage(error), words)
    except (click.Abort, KeyboardInterrupt):
        return _interrupted(words)
    except Exception as error:  # noqa: BLE001  # the last door: told with its traceback
        traceback.print_exc()
        kind = type(error).__name__
        _emit_error(words, code=FedvolError.code, message=f"{kind}: {error}", exit_status=1)
        return 1
    if status == INTERRUPTED:  # typer turns Ctrl-C into this status
        return _interrupted(words)
    return status if isinstance(status, int) else 0


def _tell(error: FedvolError, words: list[str]) -> int:
    say(str(error))
    problems: list[Json] = []
    if isinstance(error, StudyError | CaseTableError | PolicyRefusedError):
        problems = [{"where": p.where, "what": p.what, "fix": p.fix} for p in error.problems]
    _emit_error(
        words,
        code=error.code,
        message=str(error),
        exit_status=error.exit_status,
        problems=problems,
    )
    return error.exit_status


def _interrupted(words: list[str]) -> int:
    message = "Stopped."
    if words and words[0] in ("simulate", "demo"):
        again = [*words, *([] if "--resume" in words else ["--resume"])]
        message = f"Stopped. Go on with: {shlex.join(['fedvol', *again])}"
    say(message)
    _emit_error(words, code="interrupted", message=message, exit_status=INTERRUPTED)
    return INTERRUPTED


def _usage(error: click.ClickException) -> UsageError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else "fedvol"
    # typer has put its guess into the message of an unknown command; click would add it again
    is_command = isinstance(error, click.exceptions.NoSuchCommand)
    message = error.message if is_command else error.format_message()
    reason, guess, name = message.partition(" Did you mean ")
    hint = f"Did you mean {name} " if guess else ""
    return UsageError(command, reason.rstrip("."), f"{hint}See {command} --help.")


def _emit_error(
    words: list[str],
    *,
    code: str,
    message: str,
    exit_status: int,
    problems: list[Json] | None = None,
) -> None:
    if "--json" not in words:
        return
    body: dict[str, Json] = {"code": code, "message": message, "exit_status": exit_status}
    if problems:
        body["problems"] = problems
    emit({"error": body})


if __name__ == "__main__":
    sys.exit(main())
