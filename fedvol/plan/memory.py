"""How much memory a training step takes, from the network's feature maps, without building it.

Kept for the backward pass: each convolution unit's output (for the norm) and its activation (for
the next convolution), two maps; for a residual block whose channels change the pooled input and
the projection, two more; for a decoder level the two halves that it joins; and each output's
logits in about four forms, by the loss. Where these are largest, at the beginning of the backward
pass, gradients and work space need as much again: `PEAK_FACTOR`. AdamW keeps four values a
parameter: weight, gradient and two moments.

Calibrated on training steps of plain and residual U-Nets (40^3 to 64x48x48, batch of two): the
sum of kept maps was 0.4 to 6 % above the bytes that autograd keeps (0.4 % with 32 channels at the
finest stage), with bfloat16 they took 0.52 as many, and the largest resident memory on CPU, less
the parameters' part, was 2.1 to 2.2 times what was kept. A GPU's convolutions may choose more work
space; leave some of its memory out of the budget.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Final, Literal

from fedvol.config.network import ResidualEncoderUNet, UNet, level_kernels, level_strides
from fedvol.types import Triple

GIB: Final = 1 << 30
Precision = Literal["float32", "bfloat16"]

BYTES_PER_PARAMETER: Final = 16
"""Weight, gradient and two moments, always float32."""

_KEPT_BYTES: Mapping[Precision, int] = {"float32": 4, "bfloat16": 2}

PEAK_FACTOR: Final = Fraction(22, 10)
"""Largest memory of a step's maps over the memory of those that are kept."""

LOGIT_MAPS: Final = 4
"""Maps of an output's size that the loss keeps: logits, their float32 log-softmax, probabilities,
and the product with the label."""


def training_bytes(
    network: UNet | ResidualEncoderUNet,
    *,
    patch: Triple,
    batch_size: int,
    num_channels: int,
    num_classes: int,
    precision: Precision,
) -> int:
    """Estimate the memory of one training step.

    Args:
        network: The network, its lists of one length.
        patch: Voxels of a patch, divisible by the network's strides.
        batch_size: Patches in a step.
        num_channels: Image channels.
        num_classes: Classes, background included.
        precision: Arithmetic of forward and backward.
    """
    kept = kept_values(network, patch=patch, num_channels=num_channels, num_classes=num_classes)
    maps = int(PEAK_FACTOR * batch_size * kept * _KEPT_BYTES[precision])
    parameters = num_parameters(network, num_channels=num_channels, num_classes=num_classes)
    return maps + BYTES_PER_PARAMETER * parameters


def kept_values(
    network: UNet | ResidualEncoderUNet, *, patch: Triple, num_channels: int, num_classes: int
) -> int:
    """Values that one patch's forward pass keeps for the backward pass."""
    voxels = _voxels_per_level(network, patch=patch)
    features = network.features
    num_levels = len(features)
    kept = num_channels * voxels[0]
    for level, num_voxels in enumerate(voxels):
        kept += 2 * _encoder_units(network, level) * features[level] * num_voxels
        before = features[max(level - 1, 0)]
        if isinstance(network, ResidualEncoderUNet) and features[level] != before:
            kept += (before + features[level]) * num_voxels  # pooled input and projection
    for level in range(num_levels - 1):
        units = network.convs_per_decoder_stage
        kept += (2 + 2 * units) * features[level] * voxels[level]
    heads = num_levels - 1 if network.deep_supervision else 1
    return kept + LOGIT_MAPS * num_classes * sum(voxels[:heads])


def num_parameters(
    network: UNet | ResidualEncoderUNet, *, num_channels: int, num_classes: int
) -> int:
    """Values of the network's convolutions and norms."""
    features = network.features
    strides, kernels = level_strides(network), level_kernels(network)
    total = _unit(num_channels, features[0], kernels[0])
    for level, channels in enumerate(features):
        kernel = kernels[level]
        before = features[max(level - 1, 0)]
        units = _encoder_units(network, level) - (level == 0)
        if units:
            total += _unit(before, channels, kernel) + (units - 1) * _unit(
                channels, channels, kernel
            )
        if isinstance(network, ResidualEncoderUNet) and before != channels:
            total += before * channels + 2 * channels
    for level, channels in enumerate(features[:-1]):
        total += features[level + 1] * channels * math.prod(strides[level + 1]) + channels
        total += _unit(2 * channels, channels, kernels[level])
        total += (network.convs_per_decoder_stage - 1) * _unit(channels, channels, kernels[level])
    heads = len(features) - 1 if network.deep_supervision else 1
    return total + sum((channels + 1) * num_classes for channels in features[:heads])


def _encoder_units(network: UNet | ResidualEncoderUNet, level: int) -> int:
    """Convolution units of an encoder level; the stem counts at level 0."""
    if isinstance(network, ResidualEncoderUNet):
        return 2 * network.blocks_per_stage[level] + (level == 0)
    return network.convs_per_stage


def _unit(before: int, after: int, kernel: Triple) -> int:
    """Parameters of a convolution with bias and its affine norm."""
    return before * after * math.prod(kernel) + 3 * after


def _voxels_per_level(network: UNet | ResidualEncoderUNet, *, patch: Triple) -> list[int]:
    sides, voxels = list(patch), list[int]()
    for stride in level_strides(network):
        sides = [side // step for side, step in zip(sides, stride, strict=True)]
        voxels.append(math.prod(sides))
    return voxels
