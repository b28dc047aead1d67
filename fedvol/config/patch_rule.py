"""Which patches a network can take; said without building it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from fedvol.config.network import (
    UNETR,
    AttentionUNet,
    BasicUNet,
    DenseNet3d,
    DynUNet,
    HighResNet,
    Network,
    PCTNet,
    ResidualEncoderPreset,
    ResidualEncoderUNet,
    ResidualUNet,
    ResNet3d,
    SegResNet,
    SwinUNETR,
    UNet,
    VNet,
    level_strides,
)
from fedvol.config.open_study import OpenNetwork, OpenResidualEncoderUNet, OpenUNet
from fedvol.config.pct_net import pct_strides
from fedvol.types import Triple


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchRule:
    """What the sides of a network's patch must be.

    Attributes:
        multiple_of: Each side is a multiple of this.
        coarsest: Voxels of the patch per position of the coarsest grid with a norm layer over it;
            where that grid is a single position, instance norm makes it 0.
        least: Smallest side.
    """

    multiple_of: Triple
    coarsest: Triple
    least: int = 1


def patch_rule(network: Network | OpenNetwork) -> PatchRule:
    """The rule of a study's network, whose lists fit together.

    Raises:
        ValueError: Its strides are left to planning, which makes them for the patch.
    """
    match network:
        case UNet() | ResidualEncoderUNet() | DynUNet():
            return _strided(level_strides(network))
        case OpenUNet() | OpenResidualEncoderUNet():
            if network.fixed_strides is None:
                raise ValueError("the strides of this network are left to planning")
            return _strided(network.fixed_strides)
        case ResidualEncoderPreset():
            return patch_rule(network.explicit())
        case PCTNet():
            return _strided(pct_strides(network))
        case ResidualUNet() | AttentionUNet():
            return _strided(inner_strides(network))
        case VNet() | BasicUNet():
            return _strided([(2, 2, 2)] * 4)
        case SegResNet():
            return _strided([(2, 2, 2)] * (len(network.blocks_per_stage) - 1))
        case HighResNet():
            return _strided([])
        case UNETR():
            return PatchRule(multiple_of=(16, 16, 16), coarsest=(8, 8, 8), least=16)
        case SwinUNETR():
            return _strided([(2, 2, 2)] * 5)
        case DenseNet3d():
            return PatchRule(multiple_of=(1, 1, 1), coarsest=(32, 32, 32), least=32)
        case ResNet3d():
            step = 16 * network.stem_stride
            return PatchRule(multiple_of=(1, 1, 1), coarsest=(step, step, step))
        case _:
            assert_never(network)


def inner_strides(network: ResidualUNet | AttentionUNet) -> tuple[Triple, ...]:
    """Strides between the stages, defaults filled in."""
    return network.strides or ((2, 2, 2),) * (len(network.features) - 1)


def _strided(strides: Sequence[Triple]) -> PatchRule:
    total = (
        math.prod(stride[0] for stride in strides),
        math.prod(stride[1] for stride in strides),
        math.prod(stride[2] for stride in strides),
    )
    return PatchRule(multiple_of=total, coarsest=total)
