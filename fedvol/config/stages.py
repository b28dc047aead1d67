"""What networks of several stages have in common in a study."""

from typing import Annotated, Literal

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


class Stages(Section):
    """A U-Net whose stages are given one by one."""

    features: Annotated[tuple[Width, ...], Field(min_length=2, max_length=8)]
    """Channels per stage, finest first."""
    strides: Annotated[tuple[Strides, ...], Field(min_length=2, max_length=8)] | None = None
    """Downsampling on entering each stage, the first 1; default 2 from the second on."""
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=2, max_length=8)] | None = None
    """Kernel of each stage; default 3 along every axis."""
    norm: NormKind = "instance"
    """Normalisation after each convolution."""
    deep_supervision: bool = True
    """Whether coarser decoder stages have a training output of their own."""
