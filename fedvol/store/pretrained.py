"""Pretrained weights as files: with what they were trained on, under our names or others'."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedvol.config.name_map import NameMap, Renaming, to_own_names, to_their_names
from fedvol.config.weights import AnyStudy, by_content
from fedvol.errors import (
    BlobDamagedError,
    ConfigFileError,
    NameMapError,
    Problem,
    TransferError,
)
from fedvol.files import digest_file
from fedvol.plan.adaptation import AdaptationRecord
from fedvol.store.tensor_files import StateFile, write_state
from fedvol.types import Digest, State


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedFile:
    """A file of pretrained weights as it was when it was opened.

    Attributes:
        path: Where it lies.
        digest: SHA-256 of its content.
        record: What its weights were trained on.
    """

    path: Path
    digest: Digest
    record: AdaptationRecord

    @classmethod
    def open(cls, path: Path) -> Self:
        """Look at a file.

        Raises:
            BlobDamagedError: It is absent, or not a whole safetensors file.
            TransferError: It is of another kind, or has no record that this version can read.
        """
        record = read_record(path)
        return cls(path=path, digest=digest_file(path), record=record)

    def read(self) -> State:
        """Its tensors, under their names in the file.

        Raises:
            BlobDamagedError: It is not what it was.
        """
        with open_weights(self.path) as file:
            state = file.read_all()
        if digest_file(self.path) != self.digest:
            raise BlobDamagedError(
                str(self.path), "changed while it was read", "Leave it alone and start again."
            )
        return state


def find_weights(
    study: AnyStudy, *, folder: Path, kept: Path | None = None
) -> tuple[AnyStudy, PretrainedFile | None]:
    """The file of pretrained weights that a study names, and the study that names its content.

    Args:
        study: The study as written.
        folder: The folder of the study file, from which on the path counts.
        kept: What was kept of it by a run that began with it, where the file itself is gone.

    Returns:
        The study, with the file's digest in place of its path; and the file, None where the study
        names none.

    Raises:
        ConfigFileError: There is no such file, or the study names it by its content alone.
        BlobDamagedError: It is not a whole safetensors file.
        TransferError: It is another file than the study's digest says, of another kind, or without
            a record that this version can read.
    """
    weights = study.weights
    if weights is None:
        return study, None
    if weights.file is None:
        raise ConfigFileError(
            "stages.start.weights.file", "the study does not name its file", "Name it in the study."
        )
    path = folder / weights.file
    if kept is not None and kept.is_file() and not path.is_file():
        path = kept
    if not path.is_file():
        raise ConfigFileError(
            str(path),
            "there is no such file of weights",
            "Mend stages.start.weights.file; it counts from the folder of the study file on.",
        )
    found = PretrainedFile.open(path)
    if weights.digest not in (None, found.digest):
        problem = Problem(
            where="stages.start.weights.digest",
            what=f"the study wants {weights.digest}, and the file is {found.digest}",
            fix="Use the file that the study was written for, or leave the digest out.",
        )
        raise TransferError(str(path), [problem])
    return by_content(study, found.digest), found


def open_weights(path: Path) -> StateFile:
    """A file of weights that people brought; use it in a `with` statement.

    Raises:
        BlobDamagedError: It is absent, or not a whole safetensors file.
        TransferError: It is a checkpoint of PyTorch.
    """
    try:
        return StateFile(path)
    except BlobDamagedError as error:
        if _begins_like_pytorch(path):
            problem = Problem(
                where="format",
                what="it is a checkpoint of PyTorch, a program that reading would run",
                fix="Where you trust it, save its tensors with safetensors.torch.save_file; then: "
                "fedvol model import.",
            )
            raise TransferError(str(path), [problem]) from error
        raise BlobDamagedError(
            error.where,
            f"it is no whole safetensors file: {error.what}",
            "Copy the file anew from where it came from.",
        ) from error


def read_record(path: Path) -> AdaptationRecord:
    """What the weights of a file were trained on.

    Raises:
        BlobDamagedError: It is absent, or not a whole safetensors file.
        TransferError: It is a checkpoint of PyTorch, has no record, or none that this version can
            read.
    """
    with open_weights(path) as file:
        return AdaptationRecord.from_metadata(file.metadata, where=str(path))


def import_weights(
    source: Path, destination: Path, *, record: AdaptationRecord, known: Collection[str] = ()
) -> Renaming:
    """Write a foreign file's tensors under this project's names, with their record.

    Args:
        source: A safetensors file.
        destination: The file that is written; replaced where it exists.
        record: What the weights were trained on; its `names` say how they are called there.
        known: Names of the network; at least one must be among the new ones. None: any may be.

    Returns:
        The name there of every tensor that was written, and the names that no pattern fits.

    Raises:
        BlobDamagedError: The source is absent, or not a whole safetensors file.
        TransferError: It is a checkpoint of PyTorch, or no tensor has a known name.
        NameMapError: Two of its tensors would have one name.
        StoreError: The destination cannot be written.
    """
    with open_weights(source) as file:
        renaming = to_own_names(file.names, record.names)
        if known and not renaming.names.keys() & set(known):
            raise TransferError(str(source), [_nothing_known(file.names, known)])
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
        state: The tensors, under the names of the file they come from.
        destination: The file that is written; replaced where it exists.
        record: What the weights were trained on; its `names` say how they are called here.
        names: How the tensors are called there.

    Returns:
        The name here of every tensor that was written, and the names that no pattern fits.

    Raises:
        NameMapError: Two tensors would have one name, or no pattern fits any.
        StoreError: The destination cannot be written.
    """
    held = to_own_names(state, record.names)
    renaming = to_their_names(held.names, names)
    if not renaming.names:
        problem = Problem(
            where="names",
            what=f"no pattern fits any tensor, such as {next(iter(held.names), 'none at all')}",
            fix="Write patterns for the names that fedvol model show prints.",
        )
        raise NameMapError(str(destination), [problem])
    write_state(
        destination,
        ((theirs, state[held.names[ours]]) for theirs, ours in renaming.names.items()),
        metadata=record.model_copy(update={"names": names}).metadata(),
    )
    return renaming


def _nothing_known(theirs: Iterable[str], ours: Collection[str]) -> Problem:
    first, own = next(iter(theirs), "nothing"), next(iter(ours))
    return Problem(
        where="names",
        what=f"no tensor has a name of the network: there {first} and so on, here {own}",
        fix="Write a name map and give it by --names.",
    )


def _begins_like_pytorch(path: Path) -> bool:
    """Whether a file begins as archives and pickles do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))
