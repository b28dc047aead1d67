"""The surface of a mask and distances between two of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion, distance_transform_edt

from fedvol.validation.surface import surface_distances, surface_voxels

MASKS = arrays(bool, st.tuples(*[st.integers(1, 6)] * 3))


@given(mask=MASKS)
@settings(max_examples=40, deadline=None)
def test_surface_is_the_mask_without_its_erosion(mask: np.ndarray) -> None:
    expected = np.argwhere(mask & ~binary_erosion(mask))
    np.testing.assert_array_equal(surface_voxels(mask), expected)
    np.testing.assert_array_equal(surface_voxels(np.asfortranarray(mask)), expected)


def test_the_surface_of_a_large_mask_has_no_seams() -> None:
    mask = np.random.default_rng(0).random((50, 60, 70)) < 0.7
    expected = np.argwhere(mask & ~binary_erosion(mask))
    np.testing.assert_array_equal(surface_voxels(mask), expected)


def test_a_full_volume_has_its_border_as_surface() -> None:
    found = {tuple(voxel) for voxel in surface_voxels(np.ones((4, 5, 3), dtype=bool)).tolist()}
    inside = {(i, j, 1) for i in (1, 2) for j in (1, 2, 3)}
    assert found == set(np.ndindex(4, 5, 3)) - inside


def test_hand_worked_distances() -> None:
    truth = np.zeros((7, 1, 1), dtype=bool)
    prediction = truth.copy()
    truth[0:2] = True
    prediction[1:5] = True
    found = surface_distances(prediction, truth=truth, spacing_mm=(2.0, 1.0, 1.0))
    assert found.prediction_mm.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert found.truth_mm.tolist() == [2.0, 0.0]


@given(seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_distances_equal_a_distance_transform(seed: int) -> None:
    generator = np.random.default_rng(seed)
    spacing = tuple(float(s) for s in generator.uniform(0.4, 4.0, size=3))
    shape = tuple(generator.integers(2, 12, size=3))
    prediction, truth = generator.random((2, *shape)) < 0.3
    if not prediction.any() or not truth.any():
        return
    found = surface_distances(prediction, truth=truth, spacing_mm=spacing)
    predicted, annotated = (mask & ~binary_erosion(mask) for mask in (prediction, truth))
    expected = distance_transform_edt(~annotated, sampling=spacing)[predicted]
    np.testing.assert_allclose(found.prediction_mm, expected, rtol=1e-12)
    expected = distance_transform_edt(~predicted, sampling=spacing)[annotated]
    np.testing.assert_allclose(found.truth_mm, expected, rtol=1e-12)


def test_an_empty_mask_is_refused() -> None:
    full = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(ValueError, match="empty"):
        surface_distances(full, truth=~full, spacing_mm=(1.0, 1.0, 1.0))
