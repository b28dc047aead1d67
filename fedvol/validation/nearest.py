"""How far each voxel of one set is from the nearest of another; exact, also where they are many."""

from dataclasses import dataclass
from itertools import pairwise, product
from math import inf, pi, sqrt

import numpy as np
from jaxtyping import Float64, Int
from scipy.spatial import KDTree

from fedvol.config.data import Spacing

Voxels = Int[np.ndarray, "voxel 3"]

_NUM_COLUMNS = 512
"""Columns read around a voxel before the tree is asked: where both have taken about as long."""
_VOXELS_A_QUESTION = 300
"""Voxels of the box for which columns are made while the tree answers one question."""


def nearest_mm(
    voxels: Voxels, *, others: Voxels, spacing_mm: Spacing
) -> Float64[np.ndarray, " voxel"]:
    """Euclidean distance of each voxel to the nearest of `others`.

    Sets that are dense in their box, like two surfaces of an organ, are looked up: for the whole
    box it is noted how far the nearest of `others` is along the finest axis, and around each voxel
    these columns are read, closest first, until no other column can hold a nearer one. Voxels
    that are far from all others, and sets that are sparse, are asked of a k-d tree.

    Args:
        voxels: Indices i, j, k.
        others: Indices; at least one.
        spacing_mm: Edge lengths of a voxel along i, j, k.

    Raises:
        ValueError: There is no other voxel.
    """
    if not len(others):
        raise ValueError("nothing to be near to")
    order = np.argsort(spacing_mm, kind="stable")
    spacing = np.asarray(spacing_mm, dtype=np.float64)[order]
    voxels, others = voxels[:, order], others[:, order]
    squares, reach = np.full(len(voxels), inf), 0.0
    if _box_size(voxels, others) < _VOXELS_A_QUESTION * len(voxels):
        squares, reach = _look_up(voxels, others=others, spacing=spacing)
    is_far = squares > reach
    distances = np.sqrt(squares)
    if is_far.any():
        # For one batch of questions a finer or better balanced tree costs more than it saves.
        tree = KDTree(others * spacing, leafsize=32, balanced_tree=False, compact_nodes=False)
        distances[is_far] = tree.query(voxels[is_far] * spacing)[0]
    return distances


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ring:
    """Columns at one distance.

    Attributes:
        square: The distance squared, mm².
        steps: From a voxel to each of them, along the last two axes.
    """

    square: float
    steps: tuple[tuple[int, int], ...]


def _look_up(
    voxels: Voxels, *, others: Voxels, spacing: Float64[np.ndarray, "3"]
) -> tuple[Float64[np.ndarray, " voxel"], float]:
    """Squared distances from the columns around each voxel; those up to the second value hold."""
    low = np.minimum(voxels.min(axis=0), others.min(axis=0))
    sides = np.maximum(voxels.max(axis=0), others.max(axis=0)) - low + 1
    reach = _NUM_COLUMNS * spacing[1] * spacing[2] / pi
    rings = _rings(reach, sides=sides[1:], spacing=spacing[1:])
    margins = np.array([0, *np.max([step for ring in rings for step in ring.steps], axis=0)])
    first = low - margins
    depth, rows, width = (int(side) for side in sides + 2 * margins)
    shape = depth, rows, width
    too_far = int(sqrt(reach) / spacing[0]) + 1
    columns = _columns(others - first, shape=shape, too_far=too_far).reshape(-1)
    along = (np.arange(too_far + 1) * spacing[0]) ** 2
    along[too_far] = inf
    places = (voxels - first) @ np.array([rows * width, width, 1])
    squares = np.full(len(voxels), inf)
    is_open: Int[np.ndarray, " open"] = np.arange(len(voxels))
    for ring in rings:
        is_open = is_open[squares[is_open] > ring.square]
        here = places[is_open]
        shifts = [j * width + k for j, k in ring.steps]
        nearest = columns[here + shifts[0]]
        for shift in shifts[1:]:
            np.minimum(nearest, columns[here + shift], out=nearest)
        squares[is_open] = np.minimum(squares[is_open], along[nearest] + ring.square)
    return squares, reach


def _columns(
    others: Voxels, *, shape: tuple[int, int, int], too_far: int
) -> Int[np.ndarray, "i j k"]:
    """Steps along the first axis to the nearest of `others`, at most `too_far`."""
    columns = np.full(shape, too_far, dtype=np.min_scalar_type(-too_far - 2))
    columns[tuple(others.T)] = 0
    for planes in (columns, columns[::-1]):
        for before, here in pairwise(planes):
            np.minimum(here, before + 1, out=here)
    return columns


def _rings(
    reach: float, *, sides: Int[np.ndarray, "2"], spacing: Float64[np.ndarray, "2"]
) -> list[_Ring]:
    """All columns whose squared distance is at most `reach`, closest first."""
    limits = np.minimum(sides - 1, np.floor(sqrt(reach) / spacing)).astype(int)
    squares = {
        (j, k): float((j * spacing[0]) ** 2 + (k * spacing[1]) ** 2)
        for j, k in product(*(range(limit + 1) for limit in limits.tolist()))
    }
    return [
        _Ring(square=square, steps=tuple(product({j, -j}, {k, -k})))
        for (j, k), square in sorted(squares.items(), key=lambda item: item[1])
        if square <= reach
    ]


def _box_size(voxels: Voxels, others: Voxels) -> int:
    low = np.minimum(voxels.min(axis=0), others.min(axis=0))
    high = np.maximum(voxels.max(axis=0), others.max(axis=0))
    return int(np.prod(high - low + 1))
