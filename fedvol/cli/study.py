"""`fedvol study`: look at a study file without running it."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from pathlib import Path
from typing import Annotated

import typer

from fedvol.cli.output import AsJson, emit, say

app = typer.Typer(help="Check a study file; print its schema.", no_args_is_help=True)


@app.command()
def check(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.")],
    as_json: AsJson = False,
) -> None:
    """Tell every problem of a study file at once.

    STUDY is the study file. The exit status is 2 if there is any problem.
    """
    from fedvol.config import load_open_study

    checked = load_open_study(study)
    say(f"{study}: the study {checked.name} is valid.")
    if as_json:
        emit({"study": str(study), "name": checked.name, "valid": True})


@app.command()
def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference for people instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the JSON Schema of a study file.

    Editors complete and check from it.
    """
    import json

    from fedvol.config import study_schema
    from fedvol.config.reference import study_reference

    if as_json:
        emit(study_schema())
    elif markdown:
        print(study_reference(), end="")
    else:
        print(json.dumps(study_schema(), indent=2, ensure_ascii=False))
