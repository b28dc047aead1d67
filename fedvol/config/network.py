"""Networks a study may ask for."""

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.levels import (
    NNUNET_WIDTHS,
    Blocks,
    LevelKernels,
    LevelLists,
    LevelStrides,
    NormKind,
    Output,
    UNetLevels,
    Widths,
    default_kernels,
    default_strides,
)
from fedvol.config.monai_networks import (
    UNETR,
    AttentionUNet,
    BasicUNet,
    DenseNet3d,
    DynUNet,
    HighResNet,
    MonaiNetwork,
    ResidualUNet,
    ResNet3d,
    SegResNet,
    SwinUNETR,
    VNet,
)
from fedvol.config.pct_net import PCTNet

__all__ = [
    "AttentionUNet",
    "BasicUNet",
    "DenseNet3d",
    "DynUNet",
    "HighResNet",
    "MonaiNetwork",
    "Network",
    "PCTNet",
    "ResNet3d",
    "ResidualEncoderPreset",
    "ResidualEncoderUNet",
    "ResidualUNet",
    "SegResNet",
    "SwinUNETR",
    "UNet",
    "UNETR",
    "VNet",
]


class PlainUNet(UNetLevels):
    """Abstract: what is never planned of a plain U-Net."""

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["unet"]
    convs_per_decoder_stage: Annotated[int, Field(ge=1, le=8)] = 2
    """Convolutions in each decoder stage."""
    convs_per_stage: Annotated[int, Field(ge=1, le=8)] = 2
    """Convolutions in each encoder stage."""


class ResidualEncoder(UNetLevels):
    """Abstract: what is never planned of a U-Net with a residual encoder."""

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["resenc_unet"]
    convs_per_decoder_stage: Annotated[int, Field(ge=1, le=8)] = 1
    """Convolutions in each decoder stage."""


@final
class UNet(PlainUNet, LevelLists):
    """Plain 3D U-Net (Çiçek et al. 2016; nnU-Net, Isensee et al. 2021)."""

    features: Widths
    """Channels per stage, finest first."""


@final
class ResidualEncoderUNet(ResidualEncoder, LevelLists):
    """U-Net with a residual encoder (nnU-Net revisited, Isensee et al. 2024)."""

    features: Widths
    """Channels per stage, finest first."""
    blocks_per_stage: Blocks
    """Residual blocks in each encoder stage."""


@final
class ResidualEncoderPreset(Section):
    """The residual-encoder U-Net in a ready size: six stages, halved along every axis.

    "L" is the published network (Isensee et al. 2024, ResEnc L): 102 million parameters. nnU-Net's
    own presets differ in the memory they fill, by patch and batch; "M" and "S" are this project's,
    for less memory and traffic: "M" has about half the blocks (57 million), "S" half the channels
    too (14 million).
    """

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["resenc_preset"]
    size: Literal["S", "M", "L"]
    """Which size."""
    norm: NormKind = "instance"
    """Normalisation after each convolution."""
    deep_supervision: bool = True
    """Whether coarser decoder stages have a training output of their own."""

    def explicit(self) -> ResidualEncoderUNet:
        """The same network, stage by stage."""
        features, blocks = _PRESETS[self.size]
        return ResidualEncoderUNet(
            kind="resenc_unet",
            features=features,
            blocks_per_stage=blocks,
            norm=self.norm,
            deep_supervision=self.deep_supervision,
        )


_PRESETS = {
    "S": (tuple(width // 2 for width in NNUNET_WIDTHS), (1, 2, 2, 3, 3, 3)),
    "M": (NNUNET_WIDTHS, (1, 2, 2, 3, 3, 3)),
    "L": (NNUNET_WIDTHS, (1, 3, 4, 6, 6, 6)),
}

Network = Annotated[
    UNet | ResidualEncoderUNet | ResidualEncoderPreset | PCTNet | MonaiNetwork,
    Field(discriminator="kind"),
]

ListedNetwork = UNet | ResidualEncoderUNet | DynUNet
"""Networks whose levels are listed one by one."""


def level_strides(network: ListedNetwork) -> LevelStrides:
    """Strides on entering each level, defaults filled in."""
    return network.strides or default_strides(len(network.features))


def level_kernels(network: ListedNetwork) -> LevelKernels:
    """Kernel of each level, defaults filled in."""
    return network.kernels or default_kernels(len(network.features))
