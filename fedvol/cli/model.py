"""`fedvol model`: files of weights, ours and others'."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer

from fedvol.cli.output import AsJson, emit, say
from fedvol.cli.weights_text import record_text, some_names
from fedvol.errors import UsageError
from fedvol.types import Json

app = typer.Typer(help="Look at files of weights; bring them in and out.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A safetensors file.")]
ToOption = Annotated[Path, typer.Option("--to", help="The new file.")]
NamesOption = Annotated[
    Path | None, typer.Option("--names", help="Name map: how tensors are called there and here.")
]


class Transfers(StrEnum):
    """What of the network was trained."""

    ENCODER = "encoder"
    WHOLE = "whole"


@app.command()
def show(file: FileArgument, as_json: AsJson = False) -> None:
    """Say what lies in a file of weights, and what they were trained on.

    FILE is a safetensors file.
    """
    from fedvol.plan.adaptation import ADAPTATION, AdaptationRecord
    from fedvol.store import open_weights

    with open_weights(file) as held:
        tensors = {name: held.entry(name).shape for name in held.names}
        metadata = dict(held.metadata)
    values = sum(_size(shape) for shape in tensors.values())
    record = None
    if ADAPTATION in metadata:
        record = AdaptationRecord.from_metadata(metadata, where=str(file))
        say(record_text(record))
    else:
        say("No record of what they were trained on: no study can begin with them.")
    say(f"{len(tensors)} tensors of {values:,} values: {some_names([*tensors])}")
    if as_json:
        emit(
            {
                "file": str(file),
                "record": None if record is None else cast(Json, record.model_dump(mode="json")),
                "tensors": {name: [*shape] for name, shape in tensors.items()},
            }
        )


@app.command("import")
def import_(
    file: FileArgument,
    study: Annotated[
        Path,
        typer.Option(help="A study with network, channels and preprocessing of their training."),
    ],
    task: Annotated[str, typer.Option(help="A word for what they were trained on.")],
    to: ToOption,
    names: NamesOption = None,
    transfers: Annotated[Transfers, typer.Option(help="What was trained.")] = Transfers.ENCODER,
    as_json: AsJson = False,
) -> None:
    """Bring in weights from elsewhere, under the names of a network, with their record.

    FILE is a safetensors file. Without a name map its tensors keep their names.
    """
    from fedvol.config import load_study
    from fedvol.config.name_map import NameMap, load_name_map
    from fedvol.models import describe_parts, initial_network
    from fedvol.plan import AdaptationRecord, encoder_architecture
    from fedvol.store import import_weights

    _require_new(to)
    closed = load_study(study)
    network = describe_parts(initial_network(closed))
    record = AdaptationRecord(
        architecture=encoder_architecture(network),
        task=task,
        transfers=transfers.value,
        names=NameMap() if names is None else load_name_map(names),
        channels=closed.data.channels,
        patch=closed.patches.size,
        spacing_mm=closed.preprocessing.spacing_mm,
        normalisation=closed.preprocessing.normalisation,
    )
    own = {spec.name for spec in network}
    renaming = import_weights(file, to, record=record, known=own)
    unknown = sorted({*renaming.names} - own)
    missing = [spec.name for spec in network if spec.name not in renaming.names]
    say(f"{to}: {len(renaming.names)} tensors")
    for title, listed in (
        ("Without a name here", renaming.unexpected),
        ("Unknown to the network", unknown),
        ("Missing for the network", missing),
    ):
        if listed:
            say(f"{title}: {len(listed)}: {some_names([*listed])}")
    if as_json:
        emit(
            {
                "file": str(to),
                "written": [*renaming.names],
                "unexpected": [*renaming.unexpected],
                "unknown": [*unknown],
                "missing": [*missing],
            }
        )


@app.command()
def export(
    file: FileArgument, to: ToOption, names: NamesOption = None, as_json: AsJson = False
) -> None:
    """Write weights with a record under other names, with the record that knows the way back.

    FILE is a safetensors file with a record, such as pretrained.safetensors of a run.
    """
    from fedvol.config.name_map import NameMap, load_name_map
    from fedvol.store import PretrainedFile, export_weights

    _require_new(to)
    held = PretrainedFile.open(file)
    map_ = NameMap() if names is None else load_name_map(names)
    renaming = export_weights(held.read(), to, record=held.record, names=map_)
    say(f"{to}: {len(renaming.names)} tensors")
    if renaming.unexpected:
        listed = [*renaming.unexpected]
        say(f"Without a name there, left out: {len(listed)}: {some_names(listed)}")
    if as_json:
        emit(
            {
                "file": str(to),
                "written": [*renaming.names],
                "unexpected": [*renaming.unexpected],
            }
        )


def _require_new(path: Path) -> None:
    if path.exists():
        raise UsageError("--to", f"{path} is there already", "Name a new file.")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
