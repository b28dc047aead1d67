"""Grids a network can take."""

from fedvol.errors import NetworkConfigError
from fedvol.models.blocks import Features
from fedvol.types import Triple


def require_grid(x: Features, *, multiple_of: Triple, least: int = 1) -> None:
    """Refuse a grid that a network cannot halve as often as it does.

    Args:
        x: What is put in.
        multiple_of: Voxels along i, j, k of which each side is a multiple.
        least: Smallest side.

    Raises:
        NetworkConfigError: The grid is no multiple, or too small.
    """
    grid = tuple(x.shape[2:])
    if any(side % step for side, step in zip(grid, multiple_of, strict=True)):
        raise NetworkConfigError(
            "patches.size",
            f"a patch of {grid} voxels is no multiple of the network's stride {multiple_of}",
            "Use a multiple of it along each axis.",
        )
    if min(grid) < least:
        raise NetworkConfigError(
            "patches.size",
            f"a patch of {grid} voxels is too small for the network",
            f"Use at least {least} along each axis.",
        )
