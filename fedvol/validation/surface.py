"""Distances between the surfaces of two masks, computed once for every metric that uses them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from fedvol.config.data import Spacing
from fedvol.validation.nearest import Voxels, nearest_mm

_BLOCK = 1 << 16
"""Voxels worked on at a time, so that they stay in a core's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceDistances:
    """For each surface voxel of one mask, how far the other mask's surface is.

    Attributes:
        prediction_mm: From the prediction's surface to the truth's, millimetres.
        truth_mm: From the truth's surface to the prediction's, millimetres.
    """

    prediction_mm: Float[np.ndarray, "surface"]
    truth_mm: Float[np.ndarray, "other_surface"]


def surface_voxels(mask: Bool[np.ndarray, "i j k"]) -> Voxels:
    """Indices of the voxels of a mask that touch a voxel outside it by a face, in array order.

    Beyond the array is outside. This is MONAI's voxel surface: the mask without its erosion by the
    6-neighbourhood.
    """
    padded = np.zeros([side + 2 for side in mask.shape], dtype=bool)
    padded[1:-1, 1:-1, 1:-1] = mask
    # In flat memory each neighbour is a fixed number of places away.
    flat, steps = padded.reshape(-1), padded.strides
    found: list[Int[np.ndarray, " voxel"]] = []
    for start in range(steps[0], flat.size - steps[0], _BLOCK):
        stop = min(start + _BLOCK, flat.size - steps[0])
        inner = flat[start - 1 : stop - 1] & flat[start + 1 : stop + 1]
        for step in steps[:2]:
            inner &= flat[start - step : stop - step]
            inner &= flat[start + step : stop + step]
        found.append(np.flatnonzero(flat[start:stop] > inner) + start)
    return np.stack(np.unravel_index(np.concatenate(found), padded.shape), axis=1) - 1


def surface_distances(
    prediction: Bool[np.ndarray, "i j k"],
    *,
    truth: Bool[np.ndarray, "i j k"],
    spacing_mm: Spacing,
) -> SurfaceDistances:
    """Euclidean distance of each surface voxel to the nearest one of the other surface.

    Args:
        prediction: Mask of one class; not empty.
        truth: The same class as annotated, on the same grid; not empty.
        spacing_mm: Edge lengths of a voxel along i, j, k.

    Raises:
        ValueError: A mask is empty: there is no distance then.
    """
    predicted, annotated = surface_voxels(prediction), surface_voxels(truth)
    if not len(predicted) or not len(annotated):
        raise ValueError("an empty mask has no surface")
    return SurfaceDistances(
        prediction_mm=nearest_mm(predicted, others=annotated, spacing_mm=spacing_mm),
        truth_mm=nearest_mm(annotated, others=predicted, spacing_mm=spacing_mm),
    )
