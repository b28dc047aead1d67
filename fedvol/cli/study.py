"""`fedvol study`: look at a study file without running it."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fedvol.cli.output import AsJson, emit, say
from fedvol.types import Json

if TYPE_CHECKING:
    from fedvol.config import OpenStudy

app = typer.Typer(help="Check a study file; plan it; print its schema.", no_args_is_help=True)


@app.command()
def check(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.")],
    as_json: AsJson = False,
) -> None:
    """Tell every problem of a study file at once.

    STUDY is the study file. The exit status is 2 if there is any problem. A file of pretrained
    weights that it names is looked at where it is there.
    """
    from fedvol.config import load_open_study
    from fedvol.config.patch_advice import rotation_advice

    checked = load_open_study(study)
    weights = _check_weights(checked, folder=study.parent)
    say(f"{study}: the study {checked.name} is valid.")
    if checked.open_keys:
        say(f"Left to planning: {', '.join(checked.open_keys)}.")
    size = checked.patches.size
    advice = rotation_advice(size, augmentation=checked.augmentation) if size else ""
    if advice:
        say(f"Advice: {advice}.")
    if as_json:
        emit(
            {
                "study": str(study),
                "name": checked.name,
                "valid": True,
                "open": [*checked.open_keys],
                "advice": advice,
                "weights": weights,
            }
        )


def _check_weights(study: "OpenStudy", *, folder: Path) -> dict[str, Json] | None:
    """Look at the file of pretrained weights that a study names, and at whether it fits."""
    weights = study.weights
    if weights is None:
        return None
    if weights.file is None or not (folder / weights.file).exists():
        say(f"Not looked at: the pretrained weights, {weights.file or weights.digest}; not here.")
        return {"found": False}
    from fedvol.config import close_study
    from fedvol.store import find_weights

    named, file = find_weights(study, folder=folder)
    assert file is not None
    found: dict[str, Json] = {"found": True, "digest": file.digest}
    if named.open_keys:
        say(f"{file.path}: weights of {file.record.task}; whether they fit is told once planned.")
        return found
    from fedvol.cli.weights_text import transfer_text
    from fedvol.models import initial_network
    from fedvol.simulation.federate import take_over

    closed = close_study(named, {}, where=study.name)
    start = take_over(initial_network(closed), closed, file)
    say(f"{file.path}: weights of {file.record.task}, which fit.")
    say(transfer_text(start.report))
    return {**found, "report": cast(Json, start.report.model_dump(mode="json"))}


@app.command()
def plan(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.")],
    data: Annotated[Path, typer.Option(help="Folder of volumes with their case table.")],
    out: Annotated[Path | None, typer.Option(help="File for the whole plan as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan what a study leaves open, and say of each value where it is from and why.

    STUDY is the study file. Every case of --data is checked and counted; none is prepared.
    """
    from fedvol.cli.progress import watching
    from fedvol.cli.summary import settings_text
    from fedvol.config import load_open_study
    from fedvol.config.patch_advice import rotation_advice

    opened = load_open_study(study)  # a broken study is told before the heavy libraries load
    from fedvol.files import write_atomic
    from fedvol.plan import canonical_json
    from fedvol.simulation import explain_plan
    from fedvol.store import find_weights

    opened, weights = find_weights(opened, folder=study.parent)
    with tempfile.TemporaryDirectory() as folder, watching(sys.stderr) as observer:
        explained = explain_plan(
            opened, data=data, folder=Path(folder), observer=observer, weights=weights
        )
    say(settings_text(explained.settings))
    planned = explained.closed.study
    advice = rotation_advice(planned.patches.size, augmentation=planned.augmentation)
    if advice:
        say(f"Advice: {advice}.")
    if out is not None:
        write_atomic(out, canonical_json(explained.plan().model_dump(mode="json")))
    if as_json:
        record = explained.closed.record
        settings: list[Json] = [
            {
                "key": one.key,
                "value": cast(Json, one.value),
                "from": one.origin,
                "reason": one.reason,
            }
            for one in explained.settings
        ]
        emit(
            {
                "study": opened.name,
                "sites": [*explained.sites],
                "fingerprint": record.fingerprint if record else None,
                "settings": settings,
                "advice": advice,
                "out": str(out) if out else None,
            }
        )


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
