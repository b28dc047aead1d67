"""PCT-Net: convolutions at the two finest levels, beside windowed attention at the others."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedvol.config.levels import NormKind
from fedvol.config.patch_rule import patch_rule
from fedvol.config.pct_net import PCTNet as PCTNetConfig
from fedvol.config.pct_net import pct_strides
from fedvol.models.blocks import Features
from fedvol.models.convolution import Conv3d
from fedvol.models.grid import require_grid
from fedvol.models.norms import build_norm
from fedvol.models.seeded_dropout import Draw, SeededDropout, draw_of
from fedvol.models.unet import Logits
from fedvol.models.window_attention import WindowPair
from fedvol.plan import TensorKind
from fedvol.types import Triple

_FLAT: Triple = (3, 3, 1)
_WHOLE: Triple = (3, 3, 3)
_NUM_CONVOLUTIONAL = 2
"""Levels without attention, the finest."""


class PCTNet(nn.Module):
    """Stem, encoder, decoder, and an output for every decoder level.

    In training the coarser outputs are brought to the finest grid by trilinear interpolation, so
    that each is compared with the label as it is: grids of flat levels need no rule of their own.

    Args:
        config: Which; its lists fit together.
        in_channels: Channels of the image.
        num_classes: Logits per voxel.

    Reference: Wang et al. (2023), MIS-FM, arXiv:2306.16925. Its release counts the positions of a
    window wrongly, so that most of the attention's biases are never used, and builds the layer norm
    that ends each pair without applying it; here both are as they were meant. So its weights fit,
    and do not compute the same.
    """

    def __init__(self, config: PCTNetConfig, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        features, norm, strides = config.features, config.norm, pct_strides(config)
        kernels = [
            _FLAT if level < config.flat_stages else _WHOLE for level in range(len(features))
        ]
        layers = count()

        def block(level: int) -> nn.Module:
            if level < _NUM_CONVOLUTIONAL:
                return ConvBlock(
                    features[level],
                    kernel=kernels[level],
                    norm=norm,
                    dropout=config.dropout[level],
                    layers=layers,
                )
            return PCTBlock(
                features[level],
                num_heads=config.num_heads[level - _NUM_CONVOLUTIONAL],
                norm=norm,
                dropout=config.dropout[level],
                drop_path=config.drop_path,
                layers=layers,
            )

        padding = _same(kernels[0])
        self.stem = Conv3d(in_channels, features[0], kernels[0], padding=padding)
        self.encoder = nn.ModuleList(
            EncoderLevel(
                None
                if level == 0
                else Down(
                    features[level - 1],
                    features[level],
                    stride=strides[level - 1],
                    kernel=kernels[level],
                    norm=norm,
                ),
                block=block(level),
            )
            for level in range(len(features))
        )
        self.decoder = nn.ModuleList(
            DecoderLevel(
                features[level + 1],
                features[level],
                stride=strides[level],
                kernel=kernels[level],
                norm=norm,
                block=block(level),
            )
            for level in range(len(features) - 1)
        )
        num_heads = len(self.decoder) if config.deep_supervision else 1
        self.heads = nn.ModuleList(
            ConvUnit(nn.Conv3d(features[level], num_classes, 1), norm=norm)
            for level in range(num_heads)
        )
        self.total_stride = patch_rule(config).multiple_of
        self.num_features = features[-1]

    def forward(self, x: Features) -> tuple[Logits, ...]:
        """Logits of the finest level; in training with deep supervision those of coarser ones too.

        Raises:
            NetworkConfigError: The grid is no multiple of the network's stride.
        """
        require_grid(x, multiple_of=self.total_stride)
        grid = x.shape[2:]
        draw = draw_of(x) if self.training else None
        *skips, x = encode(self.stem, self.encoder, x, draw=draw)
        num_outputs = len(self.heads) if self.training else 1
        outputs: list[Tensor] = []
        for index in reversed(range(len(self.decoder))):
            x = self.decoder[index](x, skips[index], draw)
            if index < num_outputs:
                logits = self.heads[index](x)
                if index > 0:
                    logits = functional.interpolate(logits, size=grid, mode="trilinear")
                outputs.append(logits)
        return tuple(reversed(outputs))

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        return {
            "stem": TensorKind.STEM,
            "encoder": TensorKind.ENCODER,
            "decoder": TensorKind.DECODER,
            "heads": TensorKind.HEAD,
        }


class PCTNetEncoder(nn.Module):
    """Stem and encoder of a PCT-Net, under the names they have there.

    Args:
        net: Whose; the modules are shared with it.
    """

    def __init__(self, net: PCTNet) -> None:
        super().__init__()
        self.stem = net.stem
        self.encoder = net.encoder
        self.total_stride = net.total_stride
        self.num_features = net.num_features

    def forward(self, x: Features) -> tuple[Features, ...]:
        """Features of every level, finest first.

        Raises:
            NetworkConfigError: The grid is no multiple of the network's stride.
        """
        require_grid(x, multiple_of=self.total_stride)
        draw = draw_of(x) if self.training else None
        return tuple(encode(self.stem, self.encoder, x, draw=draw))

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        return {"stem": TensorKind.STEM, "encoder": TensorKind.ENCODER}


def encode(
    stem: nn.Module, levels: Iterable[nn.Module], x: Features, *, draw: Draw | None
) -> list[Features]:
    """Features of every level, finest first."""
    x = stem(x)
    features: list[Tensor] = []
    for level in levels:
        x = level(x, draw)
        features.append(x)
    return features


class ConvUnit(nn.Module):
    """Norm, PReLU with one slope, convolution: what a convolution takes is normalised first.

    Args:
        conv: The convolution, possibly transposed.
        norm: Kind of norm layer.
    """

    def __init__(self, conv: nn.Conv3d | nn.ConvTranspose3d, *, norm: NormKind) -> None:
        super().__init__()
        self.norm = build_norm(norm, num_channels=conv.in_channels)
        self.activation = nn.PReLU()
        self.conv = conv

    def forward(self, x: Features) -> Features:
        """One unit."""
        return self.conv(self.activation(self.norm(x)))


class ConvBlock(nn.Module):
    """Two units of as many channels, with dropout before the second convolution.

    Args:
        channels: Channels in and out.
        kernel: Side of both kernels along i, j, k.
        norm: Kind of norm layer.
        dropout: Share of values dropped.
        layers: Numbers for the layers that drop.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel: Triple,
        norm: NormKind,
        dropout: float,
        layers: Iterator[int],
    ) -> None:
        super().__init__()
        padding = _same(kernel)
        self.first = ConvUnit(Conv3d(channels, channels, kernel, padding=padding), norm=norm)
        self.norm = build_norm(norm, num_channels=channels)
        self.activation = nn.PReLU()
        self.dropout = SeededDropout(dropout, layer=next(layers))
        self.conv = Conv3d(channels, channels, kernel, padding=padding)

    def forward(self, x: Features, draw: Draw | None) -> Features:
        """Both units; `draw` is None where nothing is dropped."""
        x = self.activation(self.norm(self.first(x)))
        return self.conv(self.dropout(x, draw))


class PCTBlock(nn.Module):
    """A block of convolutions and a pair of windowed attentions, side by side, added.

    Args:
        channels: Channels in and out.
        num_heads: Attention heads; divides the channels.
        norm: Kind of norm layer of the convolutions.
        dropout: Share dropped in both branches.
        drop_path: Share of samples that pass a branch of the attention by.
        layers: Numbers for the layers that drop.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        norm: NormKind,
        dropout: float,
        drop_path: float,
        layers: Iterator[int],
    ) -> None:
        super().__init__()
        self.convolutions = ConvBlock(
            channels, kernel=_WHOLE, norm=norm, dropout=dropout, layers=layers
        )
        self.attention = WindowPair(
            channels, num_heads=num_heads, dropout=dropout, drop_path=drop_path, layers=layers
        )

    def forward(self, x: Features, draw: Draw | None) -> Features:
        """The sum of both branches."""
        attended = self.attention(x.movedim(1, -1), draw).movedim(-1, 1)
        return self.convolutions(x, draw) + attended


class Down(nn.Sequential):
    """Max pooling by the stride, then a unit to more channels."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: Triple, kernel: Triple, norm: NormKind
    ) -> None:
        conv = Conv3d(in_channels, out_channels, kernel, padding=_same(kernel))
        super().__init__(nn.MaxPool3d(stride), ConvUnit(conv, norm=norm))


class EncoderLevel(nn.Module):
    """The way down to a level, where it is not the finest, and the level's block."""

    def __init__(self, down: Down | None, *, block: nn.Module) -> None:
        super().__init__()
        self.down = nn.Identity() if down is None else down
        self.block = block

    def forward(self, x: Features, draw: Draw | None) -> Features:
        """Features of this level from those of the level before."""
        return self.block(self.down(x), draw)


class DecoderLevel(nn.Module):
    """A transposed unit from the level below, the encoder's features beside it, a unit, the block.

    Args:
        coarse_channels: Channels of the level below.
        channels: Channels of this level, from the encoder and out of here.
        stride: Step from this level to the one below; also the transposed kernel.
        kernel: Side of the unit's kernel.
        norm: Kind of norm layer.
        block: What follows.
    """

    def __init__(
        self,
        coarse_channels: int,
        channels: int,
        *,
        stride: Triple,
        kernel: Triple,
        norm: NormKind,
        block: nn.Module,
    ) -> None:
        super().__init__()
        up = nn.ConvTranspose3d(coarse_channels, channels, stride, stride=stride)
        self.up = ConvUnit(up, norm=norm)
        merge = Conv3d(2 * channels, channels, kernel, padding=_same(kernel))
        self.merge = ConvUnit(merge, norm=norm)
        self.block = block

    def forward(self, coarse: Features, skip: Features, draw: Draw | None) -> Features:
        """Features of this level, from those below and those of the encoder."""
        return self.block(self.merge(torch.cat((skip, self.up(coarse)), dim=1)), draw)


def _same(kernel: Sequence[int]) -> Triple:
    """Padding that keeps the grid."""
    i, j, k = (side // 2 for side in kernel)
    return i, j, k
