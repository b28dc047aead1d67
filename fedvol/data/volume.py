"""Volumes in memory: one orientation, one axis order."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32, UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """An image or label volume as read: RAS+, channel first.

    Attributes:
        array: Voxels, float32, (channel, i, j, k); i grows to the right, j to the front, k up.
        affine: Voxel index to millimetres, float64, (4, 4).
    """

    array: Float[np.ndarray, "channel i j k"]
    affine: Float[np.ndarray, "4 4"]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel along i, j, k."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCase:
    """A case on the study's grid, ready for the case store.

    Attributes:
        image: Normalised intensities, (channel, i, j, k).
        label: Class index per voxel, 0 background, (i, j, k); None without a label.
        affine: Affine of `image` and `label`.
        reference_label: Class index on the grid the site annotated, for honest metrics.
        reference_shape: Shape of the grid as read.
        reference_affine: Affine of the grid as read.
        foreground: Per class index 1.., up to 10,000 of its voxels, spread evenly, (voxel, 3).
    """

    image: Float[np.ndarray, "channel i j k"]
    label: UInt8[np.ndarray, "i j k"] | None
    affine: Float[np.ndarray, "4 4"]
    reference_label: UInt8[np.ndarray, "x y z"] | None
    reference_shape: tuple[int, int, int]
    reference_affine: Float[np.ndarray, "4 4"]
    foreground: dict[int, Int32[np.ndarray, "voxel 3"]]
