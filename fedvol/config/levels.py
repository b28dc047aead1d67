"""What networks of several levels have in common in a study.

A level is one grid of a network, finest first. Keys and texts of a study call it a stage, as the
papers do (`blocks_per_stage`); in the code a stage is one of a run: finetune, personalise.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from fedvol.config.base import Section

Width = Annotated[int, Field(ge=4, le=2048)]
KernelSide = Annotated[int, Field(ge=1, le=7)]
Stride = Annotated[int, Field(ge=1, le=4)]
Kernel = tuple[KernelSide, KernelSide, KernelSide]
Strides = tuple[Stride, Stride, Stride]
NormKind = Literal["instance", "group", "batch", "none"]
Output = Literal["voxels", "volume"]
"""What a network predicts: classes of each voxel, or of the whole volume."""

MAX_LEVELS: Final = 8
_Listed = Field(min_length=2, max_length=MAX_LEVELS)
Widths = Annotated[tuple[Width, ...], _Listed]
LevelStrides = Annotated[tuple[Strides, ...], _Listed]
LevelKernels = Annotated[tuple[Kernel, ...], _Listed]
Blocks = Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], _Listed]

NNUNET_WIDTHS: Final = (32, 64, 128, 256, 320, 320)
"""Channels of nnU-Net's published networks of six levels."""


def default_strides(num_levels: int) -> tuple[Strides, ...]:
    """Strides on entering each level where a study gives none: 2 from the second level on."""
    return ((1, 1, 1), *((2, 2, 2) for _ in range(num_levels - 1)))


def default_kernels(num_levels: int) -> tuple[Kernel, ...]:
    """Kernel of each level where a study gives none: 3 along every axis."""
    return ((3, 3, 3),) * num_levels


class UNetLevels(Section):
    """Abstract: what is never planned of a U-Net whose levels are listed one by one."""

    norm: NormKind = "instance"
    """Normalisation after each convolution."""
    deep_supervision: bool = True
    """Whether coarser decoder stages have a training output of their own."""


class LevelLists(Section):
    """Abstract: lists with an entry for each level that may be left to their defaults."""

    strides: LevelStrides | None = None
    """Downsampling on entering each stage, the first 1; default 2 from the second on."""
    kernels: LevelKernels | None = None
    """Kernel of each stage; default 3 along every axis."""
