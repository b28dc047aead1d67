"""Pretrained weights as files: with what they were trained on, under our names or others'."""

from pathlib import Path

from fedvol.config.name_map import NameMap, Renaming, to_own_names, to_their_names
from fedvol.plan.adaptation import AdaptationRecord
from fedvol.store.tensor_files import StateFile, write_state
from fedvol.types import State


def read_record(path: Path) -> AdaptationRecord:
    """What the weights of a file were trained on.

    Raises:
        BlobDamagedError: It is absent, or not a whole safetensors file.
        TransferError: It has no record, or none that this version can read.
    """
    with StateFile(path) as file:
        return AdaptationRecord.from_metadata(file.metadata, where=str(path))


def import_weights(source: Path, destination: Path, *, record: AdaptationRecord) -> Renaming:
    """Write a foreign file's tensors under this project's names, with their record.

    Args:
        source: A safetensors file.
        destination: The file that is written; replaced where it exists.
        record: What the weights were trained on; its `names` say how they are called there.

    Returns:
        The name there of every tensor that was written, and the names that no pattern fits.

    Raises:
        BlobDamagedError: The source is absent, or not a whole safetensors file.
        NameMapError: Two of its tensors would have one name.
        StoreError: The destination cannot be written.
    """
    with StateFile(source) as file:
        renaming = to_own_names(file.names, record.names)
        write_state(
            destination,
            ((ours, file.read(theirs)) for ours, theirs in renaming.names.items()),
            metadata=record.model_copy(update={"names": NameMap()}).metadata(),
        )
    return renaming


def export_weights(
    state: State, destination: Path, *, record: AdaptationRecord, names: NameMap
) -> Renaming:
    """Write a network's tensors under other names, with a record that knows the way back.

    Args:
        state: The tensors, under this project's names.
        destination: The file that is written; replaced where it exists.
        record: What the weights were trained on.
        names: How the tensors are called there.

    Returns:
        The name here of every tensor that was written, and the names that no pattern fits.

    Raises:
        NameMapError: Two tensors would have one name.
        StoreError: The destination cannot be written.
    """
    renaming = to_their_names(state, names)
    write_state(
        destination,
        ((theirs, state[ours]) for theirs, ours in renaming.names.items()),
        metadata=record.model_copy(update={"names": names}).metadata(),
    )
    return renaming
