"""From probabilities on the study's grid to classes on the grid the site annotated."""

import numpy as np
from jaxtyping import Float, UInt8

from fedvol.data.case_store import StoredCase
from fedvol.data.resample import resample, same_grid
from fedvol.validation.inference import Predictor, Probabilities


def segment(predictor: Predictor, *, case: StoredCase) -> UInt8[np.ndarray, "x y z"]:
    """Most probable class of every voxel, on the grid of the case as read; ties: the lower index.

    Probabilities are resampled, not classes, so that edges stay smooth. One class at a time, so
    that the finer grid needs three maps whatever the number of classes.
    """
    probabilities = predictor(case.image())
    if _is_reference_grid(case, shape=probabilities.shape[1:]):
        return np.argmax(probabilities, axis=0).astype(np.uint8)
    best = _on_reference(probabilities[:1], case=case)
    result = np.zeros(best.shape, dtype=np.uint8)
    for index in range(1, probabilities.shape[0]):
        candidate = _on_reference(probabilities[index : index + 1], case=case)
        better = candidate > best
        result[better] = index
        np.copyto(best, candidate, where=better)
    return result


def reference_image(case: StoredCase, *, channel: int = 0) -> Float[np.ndarray, "x y z"]:
    """One channel of the prepared image on the grid of the case as read, for pictures."""
    image = case.image()[channel : channel + 1]
    if _is_reference_grid(case, shape=image.shape[1:]):
        return image[0]
    return _on_reference(image, case=case)


def _on_reference(array: Probabilities, *, case: StoredCase) -> Float[np.ndarray, "x y z"]:
    return resample(
        array,
        affine=case.affine,
        shape_out=case.reference_shape,
        affine_out=case.reference_affine,
        order=1,
    )[0]


def _is_reference_grid(case: StoredCase, *, shape: tuple[int, ...]) -> bool:
    return same_grid(shape, case.affine, case.reference_shape, case.reference_affine)
