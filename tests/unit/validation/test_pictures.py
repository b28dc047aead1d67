"""Which slice a report shows, and how it is scaled."""

import numpy as np
import pytest

from fedvol.validation import slice_panel

SPACING = (0.5, 1.5, 4.0)


def empty() -> np.ndarray:
    return np.zeros((6, 5, 7), dtype=np.uint8)


def test_the_slice_with_the_largest_truth_is_shown() -> None:
    image = np.random.default_rng(0).normal(size=(6, 5, 7)).astype(np.float32)
    truth, prediction = empty(), empty()
    truth[1, 1, 2] = 1
    truth[1:4, 1:3, 4] = 2
    prediction[:, :, 6] = 1
    panel = slice_panel(image, truth=truth, prediction=prediction, spacing_mm=SPACING)
    assert panel.k == 4
    assert panel.spacing_mm == (0.5, 1.5)
    np.testing.assert_array_equal(panel.truth, truth[:, :, 4])
    np.testing.assert_array_equal(panel.prediction, prediction[:, :, 4])
    assert panel.image.dtype == np.uint8
    assert (panel.image.min(), panel.image.max()) == (0, 255)
    order = np.argsort(image[:, :, 4], axis=None)
    assert (np.diff(panel.image.ravel()[order].astype(int)) >= 0).all()


def test_a_panel_does_not_keep_the_volume_alive() -> None:
    panel = slice_panel(
        np.zeros((6, 5, 7), np.float32), truth=empty(), prediction=empty(), spacing_mm=SPACING
    )
    assert panel.truth.base is None
    assert panel.prediction.base is None


def test_without_truth_the_prediction_decides_and_else_the_middle() -> None:
    image = np.zeros((6, 5, 7), dtype=np.float32)
    prediction = empty()
    prediction[2, 2, 1] = 1
    shown = slice_panel(image, truth=empty(), prediction=prediction, spacing_mm=SPACING)
    assert shown.k == 1
    assert not shown.image.any()
    assert slice_panel(image, truth=empty(), prediction=empty(), spacing_mm=SPACING).k == 3


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        slice_panel(
            np.zeros((6, 5, 8), np.float32), truth=empty(), prediction=empty(), spacing_mm=SPACING
        )
