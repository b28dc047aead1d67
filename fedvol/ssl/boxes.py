"""Boxes at random places of a patch."""

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from fedvol.types import Triple

Boxes = Int64[Tensor, "box 3 2"]
"""First voxel and the one behind the last, along i, j, k."""


def draw_boxes(
    count: int,
    *,
    grid: Triple,
    smallest: Triple,
    largest: Triple,
    border: int = 0,
    generator: Generator,
) -> Boxes:
    """Draw boxes inside a patch: each side uniformly, then the box's place uniformly.

    Args:
        count: How many; they may overlap.
        grid: Voxels of the patch along i, j, k.
        smallest: Smallest side along i, j, k.
        largest: Largest side along i, j, k; at most the grid less both borders.
        border: Voxels at each face that no box reaches.
        generator: On the CPU.

    Raises:
        ValueError: Boxes do not fit.
    """
    low, high = torch.tensor(smallest).expand(count, 3), torch.tensor(largest).expand(count, 3)
    side = _draw_integers(low, high, generator=generator)
    room = torch.tensor(grid) - border - side
    first = _draw_integers(torch.full_like(side, border), room, generator=generator)
    return torch.stack((first, first + side), dim=-1)


def slices(boxes: Boxes) -> list[tuple[slice, slice, slice]]:
    """Where each box lies, as an index into an array."""
    return [(slice(*i), slice(*j), slice(*k)) for i, j, k in boxes.tolist()]


def _draw_integers(
    low: Int64[Tensor, "*shape"], high: Int64[Tensor, "*shape"], *, generator: Generator
) -> Int64[Tensor, "*shape"]:
    """Whole numbers, uniform between bounds, both included."""
    if (low > high).any():
        raise ValueError("a box is larger than its room, or its smallest side than the largest")
    share = torch.rand(high.shape, dtype=torch.float64, generator=generator)
    return low + (share * (high - low + 1)).long()
