"""Networks a study may ask for."""

from typing import Annotated, Literal

from pydantic import Field

from fedvol.config.base import Section

Width = Annotated[int, Field(ge=4, le=2048)]
KernelSide = Annotated[int, Field(ge=1, le=7)]
Stride = Annotated[int, Field(ge=1, le=4)]
Triple = tuple[KernelSide, KernelSide, KernelSide]
Strides = tuple[Stride, Stride, Stride]
NormKind = Literal["instance", "group", "batch", "none"]


class _UNet(Section):
    features: Annotated[tuple[Width, ...], Field(min_length=2, max_length=8)]
    """Channels per stage, finest first."""
    strides: tuple[Strides, ...] | None = None
    """Downsampling on entering each stage, the first normally 1; default 2 from the second on."""
    kernels: tuple[Triple, ...] | None = None
    """Kernel of each stage; default 3 along every axis."""
    convs_per_decoder_stage: Annotated[int, Field(ge=1, le=8)] = 2
    """Convolutions in each decoder stage."""
    norm: NormKind = "instance"
    """Normalisation after each convolution."""
    deep_supervision: bool = True
    """Whether coarser decoder stages have a training output of their own."""


class UNet(_UNet):
    """Plain 3D U-Net (Çiçek et al. 2016; nnU-Net, Isensee et al. 2021)."""

    kind: Literal["unet"]
    convs_per_stage: Annotated[int, Field(ge=1, le=8)] = 2
    """Convolutions in each encoder stage."""


class ResidualEncoderUNet(_UNet):
    """U-Net with a residual encoder (nnU-Net revisited, Isensee et al. 2024)."""

    kind: Literal["resenc_unet"]
    blocks_per_stage: Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], Field(min_length=2)]
    """Residual blocks in each encoder stage."""
    convs_per_decoder_stage: Annotated[int, Field(ge=1, le=8)] = 1
    """Convolutions in each decoder stage."""


Network = Annotated[UNet | ResidualEncoderUNet, Field(discriminator="kind")]


def default_strides(num_stages: int) -> tuple[Strides, ...]:
    """Strides where a study names features alone: 2 from the second stage on."""
    return ((1, 1, 1), *((2, 2, 2) for _ in range(num_stages - 1)))
