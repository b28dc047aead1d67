"""Distances to the nearest voxel, against every distance there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from fedvol.validation import nearest
from fedvol.validation.nearest import nearest_mm

SPACINGS = st.tuples(*[st.sampled_from([0.2, 0.5, 1.0, 1.37, 5.0])] * 3)


def brute_force(voxels: np.ndarray, others: np.ndarray, spacing) -> np.ndarray:
    return cdist(voxels * np.array(spacing), others * np.array(spacing)).min(axis=1)


@given(
    seed=st.integers(0, 2**31),
    sides=st.tuples(*[st.sampled_from([1, 2, 7, 40, 130])] * 3),
    spacing=SPACINGS,
    counts=st.tuples(*[st.sampled_from([1, 5, 400])] * 2),
    apart=st.sampled_from([0, -3, 25]),
)
@settings(max_examples=60, deadline=None)
def test_equal_to_brute_force(seed: int, sides, spacing, counts, apart: int) -> None:
    """Dense and sparse, near and far, flat and long boxes; negative indices too."""
    generator = np.random.default_rng(seed)
    voxels, others = (generator.integers(0, sides, size=(count, 3)) for count in counts)
    others += apart
    found = nearest_mm(voxels, others=others, spacing_mm=spacing)
    np.testing.assert_allclose(found, brute_force(voxels, others, spacing), rtol=1e-12)


def test_columns_and_tree_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plane of voxels 1 to 60 mm from a short line: the columns reach 12 mm."""
    asked = []

    class Tree(nearest.KDTree):
        def query(self, x, *args, **kwargs):
            asked.append(len(x))
            return super().query(x, *args, **kwargs)

    monkeypatch.setattr(nearest, "KDTree", Tree)
    voxels = np.argwhere(np.ones((6, 60, 1), dtype=bool))
    others = np.argwhere(np.ones((6, 1, 1), dtype=bool)) - [0, 1, 0]
    found = nearest_mm(voxels, others=others, spacing_mm=(1.0, 1.0, 1.0))
    np.testing.assert_array_equal(found, voxels[:, 1] + 1)
    assert asked == [6 * (60 - 12)]


def test_sparse_voxels_make_no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory must not grow with the box: this one has 10^15 voxels."""
    monkeypatch.delattr(nearest, "_look_up")
    voxels, others = np.array([[0, 0, 0], [10**5] * 3]), np.array([[3, 4, 0]])
    found = nearest_mm(voxels, others=others, spacing_mm=(1.0, 1.0, 1.0))
    np.testing.assert_allclose(found, brute_force(voxels, others, (1.0, 1.0, 1.0)))


def test_a_voxel_of_both_sets_is_exactly_zero_away() -> None:
    voxels = np.random.default_rng(0).integers(0, 9, size=(200, 3))
    assert not nearest_mm(voxels, others=voxels, spacing_mm=(0.3, 0.7, 1.1)).any()


def test_nothing_to_be_near_to_is_refused() -> None:
    with pytest.raises(ValueError, match="near"):
        nearest_mm(
            np.zeros((2, 3), dtype=int), others=np.zeros((0, 3), dtype=int), spacing_mm=(1.0,) * 3
        )
