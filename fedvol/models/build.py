"""From a study's network section to a network."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import assert_never

import torch
from torch import nn

from fedvol.config import Study
from fedvol.config.network import (
    Network,
    PCTNet,
    ResidualEncoderPreset,
    ResidualEncoderUNet,
    level_kernels,
    level_strides,
)
from fedvol.config.network import UNet as PlainUNet
from fedvol.config.network_checks import network_alone, network_on_channels
from fedvol.config.patch_rule import patch_rule
from fedvol.errors import NetworkConfigError
from fedvol.models.blocks import (
    LEAKY_SLOPE,
    ConvUnit,
    conv_units,
    residual_blocks,
)
from fedvol.models.monai_networks import build_monai
from fedvol.models.pct_net import PCTNet as PCTNetModule
from fedvol.models.unet import DecoderLevel, UNet
from fedvol.plan import derive_seed, digest_json, num_classes
from fedvol.types import Triple


def initial_network(study: Study) -> nn.Module:
    """The network of a study with the weights every site begins with.

    Same study, same bits; nothing else draws from the same random numbers.
    """
    return build_network(
        study.network,
        in_channels=len(study.data.channels),
        num_classes=num_classes(study.data),
        patch=study.patches.size,
        seed=derive_seed(digest_json(study.seed), "initial weights"),
    )


def build_network(
    config: Network,
    *,
    in_channels: int,
    num_classes: int,
    patch: Triple | None = None,
    seed: int = 0,
) -> nn.Module:
    """A network on the CPU, its weights drawn from a seed of its own.

    In training it gives logits as a tuple, finest first; else their finest alone, in a tuple.

    Args:
        config: Which network.
        in_channels: Channels of the image.
        num_classes: Logits per voxel, background included, or per volume.
        patch: Voxels of a patch along i, j, k; needed by `unetr` alone.
        seed: Seed of the weights.

    Raises:
        NetworkConfigError: The section's lists do not fit together, or it does not fit the rest.
    """
    for problem in (*network_alone(config), *network_on_channels(config, in_channels)):
        raise NetworkConfigError(problem.where, problem.what, problem.fix)
    match config:
        case PlainUNet() | ResidualEncoderUNet():
            net = unet_shape(config, in_channels=in_channels, num_classes=num_classes)
            net.to_empty(device="cpu")
            _draw_weights(net, generator=torch.Generator().manual_seed(seed))
            return net
        case ResidualEncoderPreset():
            return build_network(
                config.explicit(), in_channels=in_channels, num_classes=num_classes, seed=seed
            )
        case PCTNet():
            with seeded_draws(seed):
                return PCTNetModule(config, in_channels=in_channels, num_classes=num_classes)
        case _:
            with seeded_draws(seed):
                return build_monai(
                    config, in_channels=in_channels, num_classes=num_classes, patch=patch
                )


def unet_shape(
    config: PlainUNet | ResidualEncoderUNet, *, in_channels: int, num_classes: int
) -> UNet:
    """A U-Net whose lists fit, on the `meta` device: names and shapes, no weights yet."""
    strides, kernels = level_strides(config), level_kernels(config)
    features, norm = config.features, config.norm
    num_decoder_levels = len(features) - 1
    num_heads = num_decoder_levels if config.deep_supervision else 1
    # Layers made on `meta` leave the global random state alone.
    with torch.device("meta"):
        return UNet(
            stem=ConvUnit(in_channels, features[0], kernel=kernels[0], norm=norm),
            encoder=[
                _encoder_level(config, level=level, kernel=kernel, stride=stride)
                for level, (kernel, stride) in enumerate(zip(kernels, strides, strict=True))
            ],
            decoder=[
                DecoderLevel(
                    features[level + 1],
                    features[level],
                    stride=strides[level + 1],
                    kernel=kernels[level],
                    num_convs=config.convs_per_decoder_stage,
                    norm=norm,
                )
                for level in range(num_decoder_levels)
            ],
            heads=[nn.Conv3d(features[level], num_classes, 1) for level in range(num_heads)],
            total_stride=patch_rule(config).multiple_of,
            num_features=features[-1],
        )


_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def seeded_draws(seed: int) -> Generator[None]:
    """Let constructors draw from a seed, and leave the global random state as it was.

    Torch's and MONAI's draw a module's initial weights from torch's global generator.
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _encoder_level(
    config: PlainUNet | ResidualEncoderUNet, *, level: int, kernel: Triple, stride: Triple
) -> nn.Module:
    channels = config.features[level]
    before = config.features[max(level - 1, 0)]
    match config:
        case PlainUNet():
            num_convs = config.convs_per_stage - (level == 0)  # the stem is level 0's first
            return conv_units(
                [before] + [channels] * num_convs, kernel=kernel, stride=stride, norm=config.norm
            )
        case ResidualEncoderUNet():
            num_blocks = config.blocks_per_stage[level]
            return residual_blocks(
                [before] + [channels] * num_blocks, kernel=kernel, stride=stride, norm=config.norm
            )
        case _:
            assert_never(config)


def _draw_weights(net: nn.Module, *, generator: torch.Generator) -> None:
    """Kaiming-normal convolutions (He et al. 2015) with zero bias, norm layers as the identity."""
    for module in net.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm3d | nn.GroupNorm | nn.InstanceNorm3d):
            module.reset_parameters()
        else:
            assert not list(module.parameters(recurse=False)), f"{type(module)} has no rule"
