"""Intensities of a case's labelled voxels, counted for the site's fingerprint."""

import numpy as np
from jaxtyping import Float, UInt8

from fedvol.plan import INTENSITY, Intensities, exact_sums


def foreground_intensities(
    image: Float[np.ndarray, "channel i j k"], label: UInt8[np.ndarray, "i j k"]
) -> tuple[Intensities, ...]:
    """Count each channel's intensities where the label is not background.

    Args:
        image: Intensities as read; finite.
        label: Native label values.
    """
    inside = label > 0
    return tuple(_intensities(channel[inside]) for channel in image)


def _intensities(values: Float[np.ndarray, " voxel"]) -> Intensities:
    leaves, counts = np.unique(INTENSITY.leaves(values), return_counts=True)
    total, squares = exact_sums(values)
    return Intensities(
        leaves=tuple(map(int, leaves)),
        counts=tuple(map(int, counts)),
        sum=total,
        sum_of_squares=squares,
    )
