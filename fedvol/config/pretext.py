"""Pretext tasks: what is learned from unlabelled volumes.

Each class says whether its task trains the decoder too (`trains_decoder`), or the encoder alone;
whether each patch comes with a partner from another case (`needs_pairs`), so that a site needs two;
whether a patch must lie in its volume whole (`needs_whole_patches`), because padding would tell the
answer; and whether intensities are what is restored (`restores`), so that air can be told from the
body.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.data import Axis, Share

Side = Annotated[int, Field(ge=2, le=64)]
Positive = Annotated[float, Field(gt=0, lt=1)]

TOKEN_SIDE = 16
"""Side of a token of `unetr` in voxels."""


class VolumeFusion(Section):
    """Say voxel by voxel how two scans were blended (Wang et al. 2023, MIS-FM)."""

    trains_decoder: ClassVar[bool] = True
    needs_pairs: ClassVar[bool] = True
    needs_whole_patches: ClassVar[bool] = False
    restores: ClassVar[bool] = False
    kind: Literal["volume_fusion"]
    levels: Annotated[int, Field(ge=1, le=16)] = 4
    """K: shares of the blend are 0, 1/K, ..., 1, one class each."""
    boxes: tuple[Annotated[int, Field(ge=1, le=200)], Annotated[int, Field(ge=1, le=200)]] = (
        10,
        40,
    )
    """Fewest and most boxes pasted into a patch, later ones over earlier ones."""
    smallest_side: Side = 8
    """Smallest side of a box along each axis, in voxels."""
    largest_side: Positive = 0.625
    """Largest side of a box, as a share of the patch along each axis (80 voxels of 128 in the
    paper, 40 of 64)."""


class ModelsGenesis(Section):
    """Restore a patch that was shuffled, recoloured and painted over (Zhou et al. 2021).

    Intensities are scaled to 0..1 inside, between the extremes of each channel of the patch.
    """

    trains_decoder: ClassVar[bool] = True
    needs_pairs: ClassVar[bool] = False
    needs_whole_patches: ClassVar[bool] = False
    restores: ClassVar[bool] = True
    kind: Literal["models_genesis"]
    flip_probability: Share = 0.4
    """Chance of a first flip, and of another after each, three at most; each is along an axis at
    random, and of input and target alike."""
    shuffle_probability: Share = 0.5
    """Share of patches whose voxels are shuffled inside small windows, of sides up to a tenth of
    the patch."""
    shuffle_windows: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Windows shuffled in a patch of 64 x 64 x 32 voxels; their number grows with the patch."""
    intensity_probability: Share = 0.9
    """Share of patches whose intensities go through a random curve."""
    paint_probability: Share = 0.9
    """Share of patches painted over."""
    outpaint_share: Share = 0.8
    """Share of the painted patches that keep only a few windows; the others lose a few boxes."""


class MaskedAutoencoder(Section):
    """Restore masked blocks with the whole network (He et al. 2022, on a convolutional network)."""

    trains_decoder: ClassVar[bool] = True
    needs_pairs: ClassVar[bool] = False
    needs_whole_patches: ClassVar[bool] = False
    restores: ClassVar[bool] = True
    kind: Literal["mae"]
    mask_ratio: Positive = 0.75
    """Share of the blocks that are masked."""
    block: Side = 16
    """Side of a block in voxels; the patch is a multiple of it."""


class MaskedTokens(Section):
    """Restore masked tokens with a vision transformer that sees the others alone (He et al. 2022).

    For networks whose encoder is a vision transformer: `unetr`.
    """

    trains_decoder: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False
    needs_whole_patches: ClassVar[bool] = False
    restores: ClassVar[bool] = True
    kind: Literal["mae_vit"]
    mask_ratio: Positive = 0.75
    """Share of the tokens that are masked."""
    decoder_layers: Annotated[int, Field(ge=1, le=12)] = 2
    """Transformer blocks of the decoder, which is dropped after pretraining."""
    decoder_width: Annotated[int, Field(ge=16, le=2048)] = 384
    """Values per token in the decoder; a multiple of the encoder's heads."""


class SparkMAE(Section):
    """Masked autoencoder whose encoder never sees a masked voxel (Tian et al. 2023; S3D)."""

    trains_decoder: ClassVar[bool] = True
    needs_pairs: ClassVar[bool] = False
    needs_whole_patches: ClassVar[bool] = False
    restores: ClassVar[bool] = True
    kind: Literal["s3d"]
    mask_ratio: Positive = 0.75
    """Share of the blocks that are masked."""
    block: Side = 16
    """Side of a block in voxels; the patch is a multiple of it."""


class VoCo(Section):
    """Say how far a random crop overlaps each crop of a grid (Wu et al. 2024).

    The patch is the field of view: it is divided into the grid's base crops. Cases smaller than it
    are left out.
    """

    trains_decoder: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False
    needs_whole_patches: ClassVar[bool] = True
    restores: ClassVar[bool] = False
    kind: Literal["voco"]
    grid: tuple[
        Annotated[int, Field(ge=1, le=8)],
        Annotated[int, Field(ge=1, le=8)],
        Annotated[int, Field(ge=1, le=8)],
    ] = (4, 4, 1)
    """Base crops along i, j, k; the patch is a multiple of it."""
    crops: Annotated[int, Field(ge=1, le=16)] = 4
    """Random crops of each patch."""
    projector_width: Annotated[int, Field(ge=8, le=8192)] = 2048
    """Width of the projector's layers."""


class RotationPrediction(Section):
    """Say by how many quarter turns a patch was rotated (Gidaris et al. 2018, in 3D).

    Axes that change places have the same number of voxels and the same spacing, and none is
    mirrored in augmentation. Cases smaller than the patch are left out.
    """

    trains_decoder: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False
    needs_whole_patches: ClassVar[bool] = True
    restores: ClassVar[bool] = False
    kind: Literal["rotation"]
    axis: Axis | None = None
    """Axis of rotation: four classes. None: about each axis, ten classes, of a cube."""


PretextTask = Annotated[
    VolumeFusion
    | ModelsGenesis
    | MaskedAutoencoder
    | MaskedTokens
    | SparkMAE
    | VoCo
    | RotationPrediction,
    Field(discriminator="kind"),
]


def needed_cases(task: PretextTask) -> str:
    """What a site must have so that it can do a task, in words."""
    if task.needs_pairs:
        return "two cases to train on"
    return "a case as large as its patch" if task.needs_whole_patches else "a case to train on"


def num_masked(mask_ratio: float, *, num_blocks: int) -> int:
    """How many of so many blocks, or tokens, are masked: the nearest whole number."""
    return round(mask_ratio * num_blocks)
