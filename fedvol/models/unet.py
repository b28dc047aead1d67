"""3D U-Nets of the nnU-Net family: a plain or a residual encoder before the same decoder."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedvol.config.levels import NormKind
from fedvol.models.blocks import ConvUnit, Features, conv_units
from fedvol.models.grid import require_grid
from fedvol.plan import TensorKind
from fedvol.types import Triple

Logits = Float[Tensor, "batch class i j k"]


class UNet(nn.Module):
    """Stem, encoder, decoder, and one segmentation output per supervised level.

    Level 0 is the input's grid. The four parts are modules of their own, so that an exchange
    policy or a rule for fine-tuning can name them.

    Args:
        stem: The first convolution unit; keeps the grid.
        encoder: One module per level, finest first; that of level 0 keeps the grid.
        decoder: One module per level but the coarsest, finest first.
        heads: 1x1x1 convolutions to logits, finest first; only one without deep supervision.
        total_stride: Voxels of the input per voxel of the coarsest level, along i, j, k.
        num_features: Channels of the coarsest level.

    References: Çiçek et al. (2016), arXiv:1606.06650; Isensee et al. (2021),
    doi:10.1038/s41592-020-01008-z; Isensee et al. (2024), arXiv:2404.09556.
    """

    def __init__(
        self,
        *,
        stem: ConvUnit,
        encoder: Sequence[nn.Module],
        decoder: Sequence["DecoderLevel"],
        heads: Sequence[nn.Conv3d],
        total_stride: Triple,
        num_features: int,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder)
        self.heads = nn.ModuleList(heads)
        self.total_stride = total_stride
        self.num_features = num_features

    def forward(self, x: Features) -> tuple[Logits, ...]:
        """Logits, finest first; coarser ones only while training with deep supervision.

        Raises:
            NetworkConfigError: The grid cannot be halved as often as the network does.
        """
        require_grid(x, multiple_of=self.total_stride)
        num_outputs = len(self.heads) if self.training else 1
        features = encode(self.stem, self.encoder, x)
        return decode(self.decoder, list(self.heads)[:num_outputs], features)

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        return {
            "stem": TensorKind.STEM,
            "encoder": TensorKind.ENCODER,
            "decoder": TensorKind.DECODER,
            "heads": TensorKind.HEAD,
        }


class UNetEncoder(nn.Module):
    """Stem and encoder of a U-Net, under the names they have there.

    Args:
        net: Whose; the modules are shared with it.
    """

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.stem = net.stem
        self.encoder = net.encoder
        self.total_stride = net.total_stride
        self.num_features = net.num_features

    def forward(self, x: Features) -> tuple[Features, ...]:
        """Features of every level, finest first.

        Raises:
            NetworkConfigError: The grid cannot be halved as often as the network does.
        """
        require_grid(x, multiple_of=self.total_stride)
        return tuple(encode(self.stem, self.encoder, x))

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        return {"stem": TensorKind.STEM, "encoder": TensorKind.ENCODER}


def encode(stem: nn.Module, levels: Iterable[nn.Module], x: Features) -> list[Features]:
    """Features of every level, finest first."""
    x = stem(x)
    features: list[Tensor] = []
    for level in levels:
        x = level(x)
        features.append(x)
    return features


def decode(
    levels: nn.ModuleList, heads: Sequence[nn.Module], features: Sequence[Features]
) -> tuple[Logits, ...]:
    """What the heads make of the decoder's levels, finest first.

    Args:
        levels: The decoder's, finest first.
        heads: Of the finest levels, as many as are wanted.
        features: The encoder's, of every level.
    """
    *skips, x = features
    outputs: list[Tensor] = []
    for index in reversed(range(len(levels))):
        x = levels[index](x, skips[index])
        if index < len(heads):
            outputs.append(heads[index](x))
    return tuple(reversed(outputs))


class DecoderLevel(nn.Module):
    """Transposed convolution from the level below, the encoder's features beside it, units.

    Args:
        coarse_channels: Channels of the level below.
        channels: Channels of this level, from the encoder and out of here.
        stride: Step from this level to the one below; also the transposed kernel.
        kernel: Side of the units' kernels.
        num_convs: Number of units.
        norm: Kind of norm layer.
    """

    def __init__(
        self,
        coarse_channels: int,
        channels: int,
        *,
        stride: Triple,
        kernel: Triple,
        num_convs: int,
        norm: NormKind,
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(coarse_channels, channels, stride, stride=stride)
        self.convs = conv_units([2 * channels] + [channels] * num_convs, kernel=kernel, norm=norm)

    def forward(self, coarse: Features, skip: Features) -> Features:
        """Features of this level, from those below and those of the encoder."""
        return self.convs(torch.cat((self.up(coarse), skip), dim=1))
