"""The one slice of a case that a report shows, small enough to keep."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from fedvol.config.data import Spacing


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePanel:
    """An axial slice with truth and prediction; i grows to the right, j to the front.

    Attributes:
        image: Grey values scaled to 0..255.
        truth: Class index as annotated.
        prediction: Class index as predicted.
        spacing_mm: Edge lengths of a pixel along i, j.
        k: Which slice of the volume it is.
    """

    image: UInt8[np.ndarray, "i j"]
    truth: UInt8[np.ndarray, "i j"]
    prediction: UInt8[np.ndarray, "i j"]
    spacing_mm: tuple[float, float]
    k: int


def slice_panel(
    image: Float[np.ndarray, "i j k"],
    *,
    truth: UInt8[np.ndarray, "i j k"],
    prediction: UInt8[np.ndarray, "i j k"],
    spacing_mm: Spacing,
) -> SlicePanel:
    """Take the slice with the largest annotated area, else the largest predicted, else the middle.

    Args:
        image: One channel.
        truth: Class index as annotated, on the image's grid.
        prediction: Class index as predicted, on the image's grid.
        spacing_mm: Edge lengths of a voxel along i, j, k.

    Raises:
        ValueError: The three volumes differ in shape.
    """
    if not image.shape == truth.shape == prediction.shape:
        raise ValueError("image, truth and prediction differ in shape")
    k = _largest(truth)
    if k is None:
        k = _largest(prediction)
    if k is None:
        k = image.shape[2] // 2
    return SlicePanel(
        image=_grey(image[:, :, k]),
        truth=truth[:, :, k].copy(),
        prediction=prediction[:, :, k].copy(),
        spacing_mm=(spacing_mm[0], spacing_mm[1]),
        k=k,
    )


def _largest(label: UInt8[np.ndarray, "i j k"]) -> int | None:
    areas = np.count_nonzero(label, axis=(0, 1))
    return int(np.argmax(areas)) if areas.any() else None


def _grey(image: Float[np.ndarray, "i j"]) -> UInt8[np.ndarray, "i j"]:
    """Scale the slice's 0.5th to 99.5th percentile to 0..255; a flat slice is black."""
    low, high = np.percentile(image, [0.5, 99.5])
    if high <= low:
        return np.zeros(image.shape, dtype=np.uint8)
    return np.round(np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)
