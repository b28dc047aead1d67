"""Patches of which blocks are masked, as the masked autoencoders have them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedvol.config.pretext import num_masked
from fedvol.data.batch import UnlabelledBatch
from fedvol.types import Triple

Blocks = Bool[Tensor, "batch a b c"]
"""One value for each block of each patch."""
Voxels = Bool[Tensor, "batch 1 i j k"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedPatches:
    """What a masked autoencoder is shown and what is wanted of it.

    Attributes:
        shown: The patches, masked blocks set to 0.
        wanted: The patches.
        blocks: Whether a block is masked.
        inside: Which voxels lie in their volume; None: all of them.
    """

    shown: Float[Tensor, "batch channel i j k"]
    wanted: Float[Tensor, "batch channel i j k"]
    blocks: Blocks
    inside: Voxels | None

    @property
    def voxels(self) -> Voxels:
        """Whether a voxel is masked."""
        return on_grid(self.blocks, grid=grid_of(self.wanted))

    @property
    def to_restore(self) -> Voxels:
        """Whether a voxel is masked and no padding."""
        return self.voxels if self.inside is None else self.voxels & self.inside


def mask_patches(batch: UnlabelledBatch, *, mask_ratio: float, block: Triple) -> MaskedPatches:
    """Mask blocks of each patch, drawn from the batch's seed; the same number of each.

    Args:
        batch: The patches; their sides are multiples of the block's.
        mask_ratio: Share of the blocks that are masked, rounded to whole blocks.
        block: Voxels of a block along i, j, k.

    Reference: He et al. (2022), arXiv:2111.06377.
    """
    a, b, c = (side // length for side, length in zip(grid_of(batch.image), block, strict=True))
    num_blocks = a * b * c
    order = torch.rand(len(batch.image), num_blocks, generator=batch.generator()).argsort(dim=1)
    chosen = order[:, : num_masked(mask_ratio, num_blocks=num_blocks)]
    flat = torch.zeros(len(batch.image), num_blocks, dtype=torch.bool).scatter_(1, chosen, True)
    blocks = flat.view(-1, a, b, c).to(batch.image.device)
    voxels = on_grid(blocks, grid=grid_of(batch.image))
    return MaskedPatches(
        shown=batch.image.masked_fill(voxels, 0.0),
        wanted=batch.image,
        blocks=blocks,
        inside=batch.inside,
    )


def masked_mse(
    given: Float[Tensor, "batch channel i j k"],
    wanted: Float[Tensor, "batch channel i j k"],
    *,
    voxels: Voxels,
) -> Float[Tensor, ""]:
    """Mean squared error over some voxels of all channels, in float32; 0 where there is none."""
    squares = (given.float() - wanted).square() * voxels
    return squares.sum() / (voxels.sum() * wanted.shape[1]).clamp_min(1)


def on_grid(blocks: Blocks, *, grid: Triple) -> Voxels:
    """The value of the block around each position of a grid, which is finer than the blocks' own.

    Raises:
        ValueError: The blocks do not cover whole positions of the grid.
    """
    values = blocks.unsqueeze(1)
    for axis, (fine, coarse) in enumerate(zip(grid, blocks.shape[1:], strict=True), start=2):
        if fine % coarse:
            raise ValueError(f"{coarse} blocks do not divide {fine} positions along axis {axis}")
        values = values.repeat_interleave(fine // coarse, dim=axis)
    return values


def grid_of(x: Float[Tensor, "batch channel i j k"]) -> Triple:
    """Positions along i, j, k."""
    return x.shape[2], x.shape[3], x.shape[4]
