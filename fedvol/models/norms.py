"""Norm layers a network may have."""

from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedvol.config.levels import NormKind

_LARGEST_GROUP = 16


class InstanceNorm(nn.InstanceNorm3d):
    """Affine instance norm, computed as the batch norm of one sample at a time.

    The mathematics is that of its base class, which on CPU copies every channels-last tensor to
    another layout and back; this one keeps the layout, which makes a training step on one thread
    an eighth shorter. It has no running statistics: training and inference are the same.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, affine=True)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the base class's word
        """Normalise each channel of each sample over its voxels; (batch, channel, i, j, k)."""
        samples = [
            functional.batch_norm(
                sample, None, None, self.weight, self.bias, training=True, eps=self.eps
            )
            for sample in input.split(1)
        ]
        return samples[0] if len(samples) == 1 else torch.cat(samples)


def build_norm(kind: NormKind, *, num_channels: int) -> nn.Module:
    """A norm layer for some number of channels; the identity for `none`.

    Group norm has the largest groups that divide the channels, at most 16 channels each.
    """
    match kind:
        case "instance":
            return InstanceNorm(num_channels)
        case "group":
            size = max(n for n in range(1, _LARGEST_GROUP + 1) if num_channels % n == 0)
            return nn.GroupNorm(num_channels // size, num_channels)
        case "batch":
            return nn.BatchNorm3d(num_channels)
        case "none":
            return nn.Identity()
        case _:
            assert_never(kind)
