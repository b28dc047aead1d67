"""From one voxel grid to another, in physical space."""

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from scipy import ndimage

from fedvol.data.geometry import GRID_TOLERANCE_MM
from fedvol.errors import GeometryError


def resample(
    array: Float[np.ndarray, "channel i j k"],
    *,
    affine: Float[np.ndarray, "4 4"],
    shape_out: tuple[int, int, int],
    affine_out: Float[np.ndarray, "4 4"],
    order: int = 1,
) -> Float[np.ndarray, "channel x y z"]:
    """Sample channels at the voxel centres of another grid.

    The same function carries images onto the study's grid and probabilities back. Outside the
    given voxels the nearest edge value continues. Between equal grids nothing is computed and
    every bit is kept.

    Args:
        array: Channels on the first grid.
        affine: First grid's voxel index to millimetres.
        shape_out: Voxels of the second grid.
        affine_out: Second grid's voxel index to millimetres.
        order: 0 nearest voxel, 1 linear, 3 cubic B-spline.

    Returns:
        The channels on the second grid, float32, never the memory of `array`.

    Raises:
        GeometryError: The first affine cannot be inverted.
    """
    if same_grid(array.shape[1:], affine, shape_out, affine_out):
        return np.array(array, dtype=np.float32)
    step = _voxel_map(affine, affine_out)
    out = np.empty((array.shape[0], *shape_out), dtype=np.float32)
    for channel, target in zip(array, out, strict=True):
        ndimage.affine_transform(
            channel.astype(np.float32, copy=False),
            step[:3, :3],
            offset=step[:3, 3],  # pyright: ignore[reportArgumentType]  # one number per axis
            output_shape=shape_out,
            output=target,
            order=order,
            mode="nearest",
        )
    return out


def resample_label(
    label: UInt8[np.ndarray, "i j k"],
    *,
    affine: Float[np.ndarray, "4 4"],
    shape_out: tuple[int, int, int],
    affine_out: Float[np.ndarray, "4 4"],
) -> UInt8[np.ndarray, "x y z"]:
    """Carry class indices to another grid: each class linearly, then the strongest class.

    Smoother than the nearest voxel where slices are thick. On a tie the lower index wins.

    Args:
        label: Class index per voxel.
        affine: First grid's voxel index to millimetres.
        shape_out: Voxels of the second grid.
        affine_out: Second grid's voxel index to millimetres.

    Raises:
        GeometryError: The first affine cannot be inverted.
    """
    if same_grid(label.shape, affine, shape_out, affine_out):
        return label.copy()
    best = np.zeros(shape_out, dtype=np.float32)
    out = np.zeros(shape_out, dtype=np.uint8)
    for index in np.unique(label):
        share = resample(
            (label == index)[np.newaxis].astype(np.float32),
            affine=affine,
            shape_out=shape_out,
            affine_out=affine_out,
        )[0]
        stronger = share > best
        best[stronger] = share[stronger]
        out[stronger] = index
    return out


def grid_at_spacing(
    shape: tuple[int, int, int],
    *,
    affine: Float[np.ndarray, "4 4"],
    spacing_mm: tuple[float, float, float],
) -> tuple[tuple[int, int, int], Float[np.ndarray, "4 4"]]:
    """The grid of another spacing with the same axes and the same centre.

    Sides are rounded to whole voxels, so the covered extent differs by less than one voxel.

    Args:
        shape: Voxels of the given grid.
        affine: Given grid's voxel index to millimetres.
        spacing_mm: Edge lengths of the new voxels along i, j, k.

    Returns:
        Shape and affine of the new grid.
    """
    old = np.linalg.norm(affine[:3, :3], axis=0)
    factor = np.asarray(spacing_mm, dtype=np.float64) / old
    sides = np.maximum(1, np.floor(np.asarray(shape) / factor + 0.5).astype(int))
    matrix = affine[:3, :3] * factor
    centre = affine[:3, :3] @ ((np.asarray(shape) - 1) / 2) + affine[:3, 3]
    out = np.eye(4)
    out[:3, :3] = matrix
    out[:3, 3] = centre - matrix @ ((sides - 1) / 2)
    return (int(sides[0]), int(sides[1]), int(sides[2])), out


def same_grid(
    shape: tuple[int, ...],
    affine: NDArray[np.floating],
    other_shape: tuple[int, ...],
    other_affine: NDArray[np.floating],
) -> bool:
    """Whether two grids have the same voxels, to `GRID_TOLERANCE_MM` at every corner."""
    if tuple(shape) != tuple(other_shape):
        return False
    corners = np.stack(np.meshgrid(*[(0, side - 1) for side in shape], indexing="ij"), axis=-1)
    homogeneous = np.concatenate([corners.reshape(-1, 3), np.ones((8, 1))], axis=1)
    gap_mm = homogeneous @ (np.asarray(affine) - np.asarray(other_affine)).T
    return bool(np.abs(gap_mm).max() < GRID_TOLERANCE_MM)


def _voxel_map(
    affine: NDArray[np.floating], affine_out: NDArray[np.floating]
) -> NDArray[np.float64]:
    try:
        step = np.linalg.solve(affine.astype(np.float64), affine_out.astype(np.float64))
    except np.linalg.LinAlgError as error:
        raise GeometryError(
            "resampling", "the affine cannot be inverted", "Mend the volume's header."
        ) from error
    # Whole steps stay whole: rounding of the solver must not blur a shifted or mirrored grid.
    rounded = np.round(step)
    return np.where(np.abs(step - rounded) < 1e-9, rounded, step)
