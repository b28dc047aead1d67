"""What pretrained weights were learned from and for: travels with them, in their file."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, Self, final

from pydantic import Field, ValidationError

from fedvol.config.base import Section
from fedvol.config.data import Name, Normalisation, Spacing
from fedvol.config.name_map import NameMap
from fedvol.errors import Problem, TransferError
from fedvol.plan.canonical import digest_json
from fedvol.plan.tensors import TensorKind, TensorSpec
from fedvol.types import Digest

ADAPTATION: Final = "adaptation"
"""Key of the record among the words in the header of a safetensors file."""

Transfers = Literal["encoder", "whole"]
_Side = Annotated[int, Field(ge=1)]


@final
class AdaptationRecord(Section):
    """What must be known of pretrained weights to go on from them."""

    version: Literal[1] = 1
    """Version of this schema."""
    architecture: Digest
    """`encoder_architecture` of the network they were trained in."""
    task: Name
    """Kind of the pretext task, or another word for what they were trained on."""
    transfers: Transfers
    """Whether the encoder alone was trained, or the whole network but its head."""
    names: NameMap = NameMap()
    """How the tensors of the network are called in the file, a prefix before all of them."""
    channels: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Names of the image channels, in order."""
    patch: tuple[_Side, _Side, _Side]
    """Voxels of a patch along i, j, k."""
    spacing_mm: Spacing
    """Voxel size of the volumes, along R, A, S."""
    normalisation: Normalisation
    """How intensities were brought to one scale."""

    def metadata(self) -> dict[str, str]:
        """The record as words for the header of the weights' file."""
        return {ADAPTATION: self.model_dump_json()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, where: str) -> Self:
        """The record in the header of a file of weights.

        Args:
            metadata: The header's words.
            where: How messages call the file.

        Raises:
            TransferError: There is no record, or none that this version can read.
        """
        if ADAPTATION not in metadata:
            raise _unreadable(where, "does not say what its weights were trained on")
        try:
            return cls.model_validate_json(metadata[ADAPTATION])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            spot = ".".join(map(str, first["loc"])) or "the whole"
            what = f"has a record that cannot be read, at {spot}: {first['msg']}"
            raise _unreadable(where, what) from error


@final
class TransferReport(Section):
    """What became of every tensor, by name, with its number of values.

    Each tensor of the network is in one list at most; a head that the file lacks is in none.
    """

    loaded: dict[str, int]
    """Taken over as they are."""
    adapted: dict[str, int]
    """A stem made for other channels and taken over."""
    reshaped: dict[str, int]
    """Of another shape in the file; they stay as they were."""
    missing: dict[str, int]
    """Asked for, and not in the file; they stay as they were."""
    left_out: dict[str, int]
    """Not asked for: the head, the decoder where the encoder alone is taken, a stem that begins
    anew, what stays at the sites."""
    unexpected: dict[str, int]
    """Tensors of the file, by their names there, that the network does not have."""
    shares: dict[str, float]
    """Of "encoder", stem included, and of "decoder" where asked for: the share of the values that
    was taken over, what was left out not counted."""


@final
class StartingWeights(Section):
    """Pretrained weights of a file that finetuning begins with; they are in the initial weights."""

    digest: Digest
    """SHA-256 of the file."""
    record: AdaptationRecord
    """What they were trained on, as their file says."""
    report: TransferReport
    """What became of every tensor."""


def encoder_architecture(parts: Iterable[TensorSpec]) -> Digest:
    """Digest of names, shapes and types of an encoder and its stem.

    What the image's channels decide is left out, and so is the rest of the network: a task may
    have another head, or train the encoder alone.

    Args:
        parts: Tensors of the network, each with the part it lies in, norm layers too.
    """
    return digest_json(
        [
            [spec.name, [*_without_channels(spec)], spec.dtype]
            for spec in parts
            if spec.kind in (TensorKind.STEM, TensorKind.ENCODER)
        ]
    )


def _without_channels(spec: TensorSpec) -> tuple[int, ...]:
    is_weight = spec.kind is TensorKind.STEM and len(spec.shape) > 1
    return (*spec.shape[:1], 0, *spec.shape[2:]) if is_weight else spec.shape


def _unreadable(where: str, what: str) -> TransferError:
    return TransferError(
        where,
        [
            Problem(
                where=f"metadata.{ADAPTATION}",
                what=f"the file {what}",
                fix="Use weights of a pretraining run, or import the file: fedvol model import.",
            )
        ],
    )
