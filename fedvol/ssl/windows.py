"""Voxels shuffled inside small windows, all windows at once."""

import math

import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from fedvol.ssl.boxes import Boxes
from fedvol.types import Triple

_NONE = torch.iinfo(torch.int32).min
_AT_ONCE = 1 << 14
"""Windows cut into lines at once: large patches have hundreds of thousands, of many lines each."""


def shuffle_in_windows(
    windows: Boxes,
    *,
    grid: Triple,
    order: Int64[Tensor, " voxel"],
    inside: Bool[Tensor, "i j k"] | None = None,
) -> Int64[Tensor, " voxel"]:
    """For each voxel of a flat patch, the one whose value it takes: a permutation.

    Windows lie one over the other, later ones above. What lies open of each is permuted, so that
    no value is lost or doubled and none leaves its window; a voxel that no window covers stays.

    Args:
        windows: On the device where the work is to be done.
        grid: Voxels of the patch along i, j, k.
        order: All voxels in random order.
        inside: Voxels outside stay; None: there are none.
    """
    owner = topmost_windows(windows, grid=grid)
    if inside is not None:
        owner = torch.where(inside, owner, _alone(grid, device=owner.device))
    owner = owner.flatten()
    # Both lists name the windows' voxels in the same order of windows: the one as they lie, the
    # other at random.
    places = owner.argsort(stable=True)
    sources = order[owner[order].argsort(stable=True)]
    return torch.empty_like(places).scatter_(0, places, sources)


def topmost_windows(windows: Boxes, *, grid: Triple) -> Int32[Tensor, "i j k"]:
    """For each voxel the last window that covers it, counted from 0; else a negative of its own.

    Windows are cut into lines along k, and each is noted at its first voxel, in a table for its
    length. A line of n + 1 voxels is two of n that begin at neighbours: so the tables are folded.
    """
    first, side = windows[..., 0], windows[..., 1] - windows[..., 0]
    num_lines = side[:, 0] * side[:, 1]
    lines_before = num_lines.cumsum(0) - num_lines
    longest, device = int(side[:, 2].max()), windows.device
    tables = torch.full((longest, *grid), _NONE, dtype=torch.int32, device=device)
    for some in torch.arange(len(windows), device=device).split(_AT_ONCE):
        window = some.repeat_interleave(num_lines[some])
        nth = torch.arange(len(window), device=device)
        nth -= lines_before[window] - lines_before[some[0]]
        width = side[window, 1]
        i, j = first[window, 0] + nth // width, first[window, 1] + nth % width
        at = (((side[window, 2] - 1) * grid[0] + i) * grid[1] + j) * grid[2] + first[window, 2]
        tables.view(-1).scatter_reduce_(0, at, window.int(), reduce="amax")
    for length in range(longest, 1, -1):
        longer, shorter = tables[length - 1], tables[length - 2]
        torch.maximum(shorter, longer, out=shorter)
        torch.maximum(shorter[..., 1:], longer[..., :-1], out=shorter[..., 1:])
    return torch.where(tables[0] == _NONE, _alone(grid, device=device), tables[0])


def _alone(grid: Triple, *, device: torch.device) -> Int32[Tensor, "i j k"]:
    """A negative number for each voxel, no two alike."""
    num_voxels = math.prod(grid)
    return torch.arange(-1, -num_voxels - 1, -1, dtype=torch.int32, device=device).view(grid)
