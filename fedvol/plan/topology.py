"""Where a U-Net halves its grid, and how large its kernels are: the rule of nnU-Net.

Reference: Isensee et al. (2021), doi:10.1038/s41592-020-01008-z, supplementary note 2; feature
counts and residual blocks as in Isensee et al. (2024), arXiv:2404.09556.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fedvol.config.levels import MAX_LEVELS
from fedvol.types import Triple

_MIN_EDGE: Final = 4
"""Fewest voxels of the coarsest feature map along a halved axis."""

_FIRST_FEATURES, _MAX_FEATURES = 32, 320
_BLOCKS: Final = (1, 3, 4, 6, 6, 6, 6, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Strides and kernels of every level, finest first."""

    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]

    @property
    def factor(self) -> Triple:
        """Voxels of the patch per voxel of the coarsest level."""
        i, j, k = (math.prod(stride[axis] for stride in self.strides) for axis in range(3))
        return i, j, k


def plan_topology(
    sides: Sequence[int],
    *,
    spacing_mm: Sequence[float],
    max_levels: int = MAX_LEVELS,
    is_exact: bool = False,
) -> Topology:
    """Halve each axis while it has 8 voxels and its voxel edge is below twice the finest.

    A kernel is 1 along an axis until its voxel edge has come below twice the finest, then 3; the
    coarsest level has 3 along every axis. A single axis is halved alone only from 12 voxels on.

    Args:
        sides: Voxels of the patch before it is padded to a multiple of what the strides need.
        spacing_mm: Voxel edges.
        max_levels: Most levels.
        is_exact: Whether the patch cannot be padded, so that only even sides are halved.
    """
    left, edges = list(sides), list(spacing_mm)
    strides: list[Triple] = [(1, 1, 1)]
    kernels: list[Triple] = []
    while len(strides) < max_levels:
        halved = [axis for axis in range(3) if left[axis] >= 2 * _MIN_EDGE]
        if is_exact:
            halved = [axis for axis in halved if left[axis] % 2 == 0]
        if halved:
            finest = min(edges[axis] for axis in halved)
            halved = [axis for axis in halved if edges[axis] < 2 * finest]
        if not halved or (len(halved) == 1 and left[halved[0]] < 3 * _MIN_EDGE):
            break
        kernels.append(_kernel(edges, before=kernels))
        strides.append(_triple(2 if axis in halved else 1 for axis in range(3)))
        for axis in halved:
            left[axis], edges[axis] = -(-left[axis] // 2), 2 * edges[axis]
    return Topology(strides=tuple(strides), kernels=(*kernels, (3, 3, 3)))


def kernels_of(strides: Sequence[Triple], *, spacing_mm: Sequence[float]) -> tuple[Triple, ...]:
    """Kernels for strides that the study fixes, by the same rule."""
    edges = list(spacing_mm)
    kernels: list[Triple] = []
    for stride in strides[1:]:
        kernels.append(_kernel(edges, before=kernels))
        edges = [edge * step for edge, step in zip(edges, stride, strict=True)]
    return (*kernels, (3, 3, 3))


def features_of(num_levels: int) -> tuple[int, ...]:
    """32 channels, doubled from level to level up to 320."""
    return tuple(min(_FIRST_FEATURES << level, _MAX_FEATURES) for level in range(num_levels))


def blocks_of(num_levels: int) -> tuple[int, ...]:
    """Residual blocks of a residual encoder: 1, 3, 4, then 6."""
    return _BLOCKS[:num_levels]


def _kernel(edges: Sequence[float], *, before: Sequence[Triple]) -> Triple:
    last = before[-1] if before else (1, 1, 1)
    finest = min(edges)
    return _triple(3 if last[axis] == 3 or edges[axis] < 2 * finest else 1 for axis in range(3))


def _triple(values: Iterable[int]) -> Triple:
    i, j, k = values
    return i, j, k
