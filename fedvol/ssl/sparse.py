"""Sparse convolution over visible blocks, emulated with the dense layers of `fedvol.models`.

Layers are applied to dense tensors, masked positions are set to 0 after each, and norm layers take
their statistics over visible positions alone. So no feature at a visible position depends on a
masked voxel, and the number of zeros shifts no statistics. The layers themselves know nothing of
it: their weights are those of the ordinary network.

Reference: Tian et al. (2023), arXiv:2301.03580 (SparK), section 3.
"""

from typing import final

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from fedvol.errors import NetworkConfigError
from fedvol.models.blocks import ConvUnit, Features, ResidualBlock
from fedvol.ssl.masks import Blocks, grid_of, on_grid
from fedvol.types import Triple

Mask = Bool[Tensor, "batch 1 i j k"]


@final
class Visible:
    """Which blocks of each patch are visible, on whatever grid a network has.

    Args:
        blocks: Whether a block is visible; as many of each patch.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._on_grids: dict[Triple, Mask | None] = {}

    def on(self, grid: Triple) -> Mask | None:
        """Whether each position is visible; None where a position is larger than a block.

        Such a position counts as visible: what it holds comes from visible ones.
        """
        if grid not in self._on_grids:
            coarse = grid_of(self._blocks.unsqueeze(1))
            is_finer = not any(a % b for a, b in zip(grid, coarse, strict=True))
            self._on_grids[grid] = on_grid(self._blocks, grid=grid) if is_finer else None
        return self._on_grids[grid]

    def keep(self, x: Features) -> Features:
        """Set masked positions to 0."""
        mask = self.on(grid_of(x))
        return x if mask is None else x * mask

    def fill(self, x: Features, token: Tensor) -> Features:
        """Put a value for each channel at masked positions."""
        mask = self.on(grid_of(x))
        return x if mask is None else torch.where(mask, x, token.to(x.dtype))


def apply_sparsely(module: nn.Module, x: Features, visible: Visible) -> Features:
    """Apply a block of a U-Net's encoder as if its convolutions were sparse.

    Args:
        module: Any of our blocks, or what they are made of.
        x: Features that are 0 where they are masked.
        visible: What is masked.

    Returns:
        Features that are 0 where they are masked.

    Raises:
        NetworkConfigError: The module is nothing that can be applied so.
    """
    match module:
        case nn.Sequential():
            for part in module:
                x = apply_sparsely(part, x, visible)
            return x
        case ConvUnit():
            for part in (module.conv, module.norm, module.activation):
                x = apply_sparsely(part, x, visible)
            return x
        case ResidualBlock():
            inner = apply_sparsely(module.first, x, visible)
            inner = apply_sparsely(module.second, inner, visible)
            skip = apply_sparsely(module.pool, x, visible)
            return module.activation(inner + apply_sparsely(module.project, skip, visible))
        case nn.Conv3d() | nn.AvgPool3d():
            return visible.keep(module(x))
        case nn.InstanceNorm3d() | nn.GroupNorm():
            return _norm(module, x, visible.on(grid_of(x)))
        case nn.LeakyReLU() | nn.Identity():
            return module(x)  # 0 stays 0
        case _:
            raise NetworkConfigError(
                "network",
                f"{type(module).__name__} cannot be applied to visible voxels alone",
                'Use a U-Net with instance or group norm, or task "mae".',
            )


def _norm(module: nn.InstanceNorm3d | nn.GroupNorm, x: Features, mask: Mask | None) -> Features:
    """Group norm over visible positions, in float32; instance norm is that of groups of one."""
    if mask is None:
        return module(x)
    num_groups = module.num_groups if isinstance(module, nn.GroupNorm) else module.num_features
    groups = x.float().unflatten(1, (num_groups, -1))  # batch group channel i j k
    inside = mask.unsqueeze(1)
    rest = (2, 3, 4, 5)
    num_values = inside.sum(rest, keepdim=True) * groups.shape[2]
    mean = groups.sum(rest, keepdim=True) / num_values
    centred = (groups - mean) * inside
    variance = centred.square().sum(rest, keepdim=True) / num_values
    scale, shift = (part.view(1, -1, 1, 1, 1) for part in (module.weight, module.bias))
    normed = (centred * (variance + module.eps).rsqrt()).flatten(1, 2)
    return ((normed * scale + shift) * mask).to(x.dtype)
