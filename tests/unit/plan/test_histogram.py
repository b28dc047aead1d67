"""Fixed bins, exact sums and quantiles, against numpy and whole numbers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.plan import EXTENT, INTENSITY, SPACING, Histogram, exact_sums

FLOATS = st.floats(-(2.0**30), 2.0**30, width=32)


@given(st.lists(FLOATS, min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_leaf_is_near_its_values_and_keeps_their_order(values: list[float]) -> None:
    array = np.sort(np.asarray(values, "f4"))
    leaves = INTENSITY.leaves(array)
    assert (np.diff(leaves) >= 0).all()
    assert leaves.min() >= 0
    assert leaves.max() < INTENSITY.num_leaves
    for value, leaf in zip(array.tolist(), leaves.tolist(), strict=True):
        assert abs(float(INTENSITY.value(leaf)) - value) <= max(abs(value) / 128, 2.0**-10)


@pytest.mark.parametrize("value", [*range(-128, 129), 1000, -1024, 0.25])
def test_whole_hounsfield_units_up_to_128_are_exact(value: float) -> None:
    (leaf,) = INTENSITY.leaves(np.asarray([value], "f4")).tolist()
    assert INTENSITY.value(leaf) == pytest.approx(value, rel=0 if abs(value) <= 128 else 1 / 128)


def test_values_beyond_the_scale_stay_on_it() -> None:
    leaves = INTENSITY.leaves(np.asarray([-3e38, 3e38], "f4")).tolist()
    assert [float(INTENSITY.value(leaf)) for leaf in leaves] == [-(2.0**30), 2.0**30]
    assert SPACING.leaf(1e30) == SPACING.num_leaves - 1
    assert SPACING.leaf(1e-9) == 1


@given(st.lists(FLOATS, max_size=60))
@settings(max_examples=100, deadline=None)
def test_sums_are_those_of_whole_numbers(values: list[float]) -> None:
    array = np.asarray(values, "f4")
    fixed = [round(Fraction(value) * 1024) for value in array.tolist()]
    assert exact_sums(array) == (sum(fixed), sum(value**2 for value in fixed))


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_quantiles_are_numpys_of_the_same_definition(tenths: list[int]) -> None:
    leaves, counts = np.unique([EXTENT.leaf(value / 10) for value in tenths], return_counts=True)
    cells = tuple((0, int(leaf), int(num)) for leaf, num in zip(leaves, counts, strict=True))
    histogram = Histogram(cells=cells)
    for percent in (0, 10, 50, 100):
        found = histogram.quantile(Fraction(percent, 100), scale=EXTENT)
        expected = np.percentile(tenths, percent, method="averaged_inverted_cdf") / 10
        assert float(found) == pytest.approx(float(expected))


def test_a_coarse_bin_counts_as_spread_evenly() -> None:
    histogram = Histogram(cells=((4, 1, 8),), withheld=100)  # leaves 16 to 31
    assert histogram.quantile(Fraction(1, 2), scale=EXTENT) == Fraction(47, 20)
    assert histogram.quantile(Fraction(1), scale=EXTENT) == Fraction(31, 10)


def test_bins_of_several_levels_add_up() -> None:
    fine, coarse = Histogram(cells=((0, 20, 3),)), Histogram(cells=((4, 1, 16),), withheld=2)
    both = Histogram.added([fine, coarse])
    assert both == Histogram.added([coarse, fine])
    assert both.cells == ((0, 20, 3), (4, 1, 16))
    assert (both.told, both.withheld, both.total) == (19, 2, 21)


def test_nothing_told_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="without cells"):
        Histogram(cells=(), withheld=7).quantile(Fraction(1, 2), scale=EXTENT)
