"""From probabilities on the study's grid to classes on the grid the site annotated."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

from fedvol.data.case_store import StoredCase
from fedvol.data.resample import resample, same_grid
from fedvol.validation.inference import Predictor, Probabilities

_Map = Float[np.ndarray, "x y z"]


def segment(predictor: Predictor, *, case: StoredCase) -> UInt8[np.ndarray, "x y z"]:
    """Most probable class of every voxel, on the grid of the case as read; ties: the lower index.

    Probabilities are resampled, not classes, so that edges stay smooth. One class at a time, so
    that the finer grid needs three maps whatever the number of classes.
    """
    probabilities = predictor(case.image())
    if _is_reference_grid(case, shape=probabilities.shape[1:]):
        return _most_probable(iter(probabilities))
    return _most_probable(
        _on_reference(channel[np.newaxis], case=case) for channel in probabilities
    )


def reference_image(case: StoredCase, *, channel: int = 0) -> Float[np.ndarray, "x y z"]:
    """One channel of the prepared image on the grid of the case as read, for pictures."""
    image = case.image()[channel : channel + 1]
    if _is_reference_grid(case, shape=image.shape[1:]):
        return image[0]
    return _on_reference(image, case=case)


def _on_reference(array: Probabilities, *, case: StoredCase) -> _Map:
    return resample(
        array,
        affine=case.affine,
        shape_out=case.reference_shape,
        affine_out=case.reference_affine,
        order=1,
    )[0]


def _is_reference_grid(case: StoredCase, *, shape: tuple[int, ...]) -> bool:
    return same_grid(shape, case.affine, case.reference_shape, case.reference_affine)


def _most_probable(maps: Iterator[_Map]) -> UInt8[np.ndarray, "x y z"]:
    """Index of the largest of several maps in every voxel; several times faster than `argmax`."""
    best = next(maps).copy()
    result = np.zeros(best.shape, dtype=np.uint8)
    for index, candidate in enumerate(maps, start=1):
        is_better = (candidate > best).view(np.uint8)
        np.maximum(result, is_better * np.uint8(index), out=result)  # indices only grow
        np.maximum(best, candidate, out=best)
    return result
