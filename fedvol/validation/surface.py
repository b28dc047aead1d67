"""Distances between the surfaces of two masks, computed once for every metric that uses them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

from fedvol.config.data import Spacing


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceDistances:
    """For each surface voxel of one mask, how far the other mask's surface is.

    Attributes:
        prediction_mm: From the prediction's surface to the truth's, millimetres.
        truth_mm: From the truth's surface to the prediction's, millimetres.
    """

    prediction_mm: Float[np.ndarray, "surface"]
    truth_mm: Float[np.ndarray, "other_surface"]


def surface(mask: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    """Voxels of a mask that touch a voxel outside it by a face; the array's border is outside.

    This is MONAI's voxel surface: the mask without its erosion by the 6-neighbourhood.
    """
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(3):
        for side in (slice(None, -2), slice(2, None)):
            neighbour = [slice(1, -1)] * 3
            neighbour[axis] = side
            inner &= padded[tuple(neighbour)]
    return mask & ~inner


def surface_distances(
    prediction: Bool[np.ndarray, "i j k"],
    *,
    truth: Bool[np.ndarray, "i j k"],
    spacing_mm: Spacing,
) -> SurfaceDistances:
    """Euclidean distance of each surface voxel to the nearest one of the other surface.

    A k-d tree over surface voxels finds them: exact like a distance transform, and its cost grows
    with the surface, not with the volume.

    Args:
        prediction: Mask of one class; not empty.
        truth: The same class as annotated, on the same grid; not empty.
        spacing_mm: Edge lengths of a voxel along i, j, k.

    Raises:
        ValueError: A mask is empty: there is no distance then.
    """
    if not prediction.any() or not truth.any():
        raise ValueError("an empty mask has no surface")
    predicted, annotated = surface(prediction), surface(truth)
    shared = predicted & annotated
    points = np.argwhere(predicted) * np.asarray(spacing_mm)
    others = np.argwhere(annotated) * np.asarray(spacing_mm)
    return SurfaceDistances(
        prediction_mm=_nearest(points, others=others, zero=shared[predicted]),
        truth_mm=_nearest(others, others=points, zero=shared[annotated]),
    )


def _nearest(
    points: Float[np.ndarray, "surface 3"],
    *,
    others: Float[np.ndarray, "other_surface 3"],
    zero: Bool[np.ndarray, "surface"],
) -> Float[np.ndarray, "surface"]:
    distances = np.zeros(len(points))
    if not zero.all():
        tree = KDTree(others, balanced_tree=False, compact_nodes=False)
        distances[~zero] = tree.query(points[~zero])[0]
    return distances
