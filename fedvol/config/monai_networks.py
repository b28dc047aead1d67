"""Networks that MONAI implements and a study may ask for."""

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.levels import (
    MAX_LEVELS,
    NNUNET_WIDTHS,
    LevelLists,
    Output,
    Strides,
    UNetLevels,
    Width,
    Widths,
)

NormLayer = Literal["instance", "group", "batch"]
"""These networks all have norm layers; published weights want the published kind."""


class VNet(Section):
    """V-Net: residual encoder and decoder of 5x5x5 convolutions (Milletari et al. 2016).

    Without dropout, so that a training step depends on weights and batch alone. The image must
    have 1, 2, 4, 8 or 16 channels, because the first layer adds copies of it to its 16 features.
    """

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["vnet"]
    norm: NormLayer = "batch"
    """Normalisation after each convolution but the last."""


@final
class DynUNet(UNetLevels, LevelLists):
    """MONAI's U-Net after nnU-Net, with residual blocks in the encoder (Futrega et al. 2021)."""

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["dynunet"]
    features: Annotated[tuple[Width, ...], Field(min_length=3, max_length=MAX_LEVELS)] = (
        NNUNET_WIDTHS
    )
    """Channels per stage, finest first."""
    residual: bool = True
    """Whether encoder blocks have a shortcut."""


class SegResNet(Section):
    """Residual encoder and small decoder (Myronenko 2018), without the autoencoder branch."""

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["segresnet"]
    features: Width = 32
    """Channels at full resolution; each further stage has twice those before."""
    blocks_per_stage: Annotated[
        tuple[Annotated[int, Field(ge=1, le=16)], ...], Field(min_length=2, max_length=6)
    ] = (1, 2, 2, 4)
    """Residual blocks in each encoder stage; decoder stages have one."""
    norm: NormLayer = "group"
    """Normalisation before each convolution; "group" has 8 groups, as published."""


class _StridedUNet(Section):
    features: Widths = (
        16,
        32,
        64,
        128,
        256,
    )
    """Channels per stage, finest first."""


class ResidualUNet(_StridedUNet):
    """MONAI's U-Net of residual units, which strides in its first layer (Kerfoot et al. 2019)."""

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["residual_unet"]
    strides: tuple[Strides, ...] | None = None
    """Downsampling in each stage but the last, which keeps its grid; default 2 along every axis."""
    units_per_stage: Annotated[int, Field(ge=1, le=8)] = 2
    """Convolutions in each residual unit of the encoder."""
    norm: NormLayer = "instance"
    """Normalisation after each convolution; affine, where MONAI's instance norm is not."""


class AttentionUNet(_StridedUNet):
    """U-Net whose skips pass attention gates (Oktay et al. 2018)."""

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["attention_unet"]
    strides: tuple[Strides, ...] | None = None
    """Downsampling from each stage to the next; default 2 along every axis."""
    norm: NormLayer = "batch"
    """Normalisation after each convolution; also where skips are merged, which MONAI gives an
    instance norm."""


class BasicUNet(Section):
    """Plain U-Net of five stages with max pooling (Falk et al. 2019)."""

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["basic_unet"]
    features: Annotated[tuple[Width, ...], Field(min_length=6, max_length=6)] = (
        32,
        32,
        64,
        128,
        256,
        32,
    )
    """Channels of the five stages, finest first, then those of the last decoder stage."""
    norm: NormLayer = "instance"
    """Normalisation after each convolution."""


class HighResNet(Section):
    """HighRes3DNet: dilated residual blocks at full resolution (Li et al. 2017).

    Sizes are the published ones. The last layer is a plain 1x1x1 convolution: MONAI's ends with a
    norm and a ReLU, which a softmax does not want.
    """

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["highresnet"]
    norm: NormLayer = "batch"
    """Normalisation before each convolution."""


class UNETR(Section):
    """UNETR: a vision transformer of 12 layers, convolutions around it (Hatamizadeh et al. 2022).

    Tokens are blocks of 16 voxels a side, and their learned positions hold for one patch size:
    that of the study, which inference uses too.
    """

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["unetr"]
    features: Width = 16
    """Channels of the convolutions at full resolution."""
    hidden_size: Annotated[int, Field(ge=16, le=4096)] = 768
    """Values per token; a multiple of `num_heads`."""
    mlp_dim: Annotated[int, Field(ge=16, le=16384)] = 3072
    """Values in the hidden layer behind each attention."""
    num_heads: Annotated[int, Field(ge=1, le=64)] = 12
    """Attention heads."""
    norm: NormLayer = "instance"
    """Normalisation of the convolutions, affine, where MONAI's instance norm is not; the
    transformer has its layer norms in any case."""


class SwinUNETR(Section):
    """Swin UNETR: windowed attention in four stages, convolutions around it.

    References: Hatamizadeh et al. (2022), arXiv:2201.01266; He et al. (2023), v2.
    """

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["swin_unetr"]
    version: Literal["v1", "v2"] = "v1"
    """Whether each stage begins with a residual convolution block ("v2")."""
    features: Literal[12, 24, 36, 48] = 48
    """Channels of the first stage; each further stage has twice those before."""
    norm: NormLayer = "instance"
    """Normalisation of the convolutions, affine, where MONAI's instance norm is not; the
    transformer has its layer norms in any case."""


class DenseNet3d(Section):
    """DenseNet for whole volumes (Huang et al. 2017), with 3D convolutions."""

    predicts: ClassVar[Output] = "volume"
    kind: Literal["densenet3d"]
    depth: Literal[121, 169, 201, 264] = 121
    """Layers with weights."""
    norm: NormLayer = "batch"
    """Normalisation before each convolution."""


class ResNet3d(Section):
    """ResNet for whole volumes (He et al. 2016; Hara et al. 2018): 7x7x7 stem, four stages."""

    predicts: ClassVar[Output] = "volume"
    kind: Literal["resnet3d"]
    depth: Literal[18, 34, 50] = 18
    """Layers with weights."""
    stem_stride: Literal[1, 2] = 2
    """Step of the first convolution; 1 keeps detail of small volumes, at eight times the cost."""
    bias_downsample: bool = False
    """Whether the shortcuts' convolutions have a bias; true is MONAI's default, for its weights."""
    norm: NormLayer = "batch"
    """Normalisation after each convolution."""


OneOutput = (
    VNet
    | SegResNet
    | ResidualUNet
    | AttentionUNet
    | BasicUNet
    | HighResNet
    | UNETR
    | SwinUNETR
    | DenseNet3d
    | ResNet3d
)
"""Networks with one output, which have no deep supervision."""

MonaiNetwork = DynUNet | OneOutput
