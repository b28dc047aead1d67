"""Convolution units and residual blocks, as nnU-Net puts them together.

Convolutions have a bias, also before a norm layer that takes it out again: the published
networks have them, and so parameter counts and weights agree with theirs.
"""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from fedvol.config.levels import NormKind
from fedvol.models.convolution import Conv3d
from fedvol.models.norms import build_norm
from fedvol.types import Triple

Features = Float[Tensor, "batch channel i j k"]

LEAKY_SLOPE = 0.01
NO_STRIDE: Triple = (1, 1, 1)


class ConvUnit(nn.Module):
    """Convolution, norm, and a leaky ReLU unless something is added first.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel: Side of the kernel along i, j, k; odd.
        stride: Step along i, j, k.
        norm: Kind of norm layer.
        activate: Whether the unit ends with its activation.
        bias: Whether the convolution has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: Triple,
        stride: Triple = NO_STRIDE,
        norm: NormKind,
        activate: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv = Conv3d(
            in_channels, out_channels, kernel, stride=stride, padding=padding, bias=bias
        )
        self.norm = build_norm(norm, num_channels=out_channels)
        self.activation = _activation() if activate else nn.Identity()

    def forward(self, x: Features) -> Features:
        """One unit; the grid shrinks by the stride."""
        return self.activation(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two convolution units around a skip; the activation follows the sum.

    The skip is an average pool where the block strides, then a 1x1x1 convolution without bias
    and a norm where the channels change.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel: Side of both kernels along i, j, k; odd.
        stride: Step of the first convolution along i, j, k.
        norm: Kind of norm layer.

    Reference: He et al. (2019), arXiv:1812.01187, variant D; as in nnU-Net.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: Triple, stride: Triple, norm: NormKind
    ) -> None:
        super().__init__()
        self.first = ConvUnit(in_channels, out_channels, kernel=kernel, stride=stride, norm=norm)
        self.second = ConvUnit(out_channels, out_channels, kernel=kernel, norm=norm, activate=False)
        self.pool = nn.Identity() if stride == NO_STRIDE else nn.AvgPool3d(stride, stride)
        self.project = (
            nn.Identity()
            if in_channels == out_channels
            else ConvUnit(
                in_channels, out_channels, kernel=(1, 1, 1), norm=norm, activate=False, bias=False
            )
        )
        self.activation = _activation()

    def forward(self, x: Features) -> Features:
        """One block; the grid shrinks by the stride."""
        return self.activation(self.second(self.first(x)) + self.project(self.pool(x)))


def conv_units(
    channels: Sequence[int], *, kernel: Triple, stride: Triple = NO_STRIDE, norm: NormKind
) -> nn.Sequential:
    """Convolution units one after another.

    Args:
        channels: Channels before the first unit, then after each.
        kernel: Side of the kernels.
        stride: Step of the first unit.
        norm: Kind of norm layer.
    """
    steps = [stride] + [NO_STRIDE] * len(channels)
    return nn.Sequential(
        *(
            ConvUnit(before, after, kernel=kernel, stride=step, norm=norm)
            for (before, after), step in zip(pairwise(channels), steps, strict=False)
        )
    )


def residual_blocks(
    channels: Sequence[int], *, kernel: Triple, stride: Triple, norm: NormKind
) -> nn.Sequential:
    """Residual blocks one after another; arguments as for `conv_units`."""
    steps = [stride] + [NO_STRIDE] * len(channels)
    return nn.Sequential(
        *(
            ResidualBlock(before, after, kernel=kernel, stride=step, norm=norm)
            for (before, after), step in zip(pairwise(channels), steps, strict=False)
        )
    )


def _activation() -> nn.Module:
    # In place: neither norm nor sum needs its own output to compute a gradient.
    return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
