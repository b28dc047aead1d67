"""Values, intervals and differences from sums alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.errors import ContributionError
from fedvol.federation.statistics import MetricSums, difference, merge


def sums_of(
    sums: list[list[float]],
    counts: list[list[int]],
    *,
    keys: tuple[str, ...] = ("dice",),
    is_lone: bool = False,
) -> MetricSums:
    return MetricSums(
        keys=keys,
        sums=np.array(sums, dtype=np.float64),
        counts=np.array(counts, dtype=np.float64),
        undefined=np.full(len(keys), 2, dtype=np.int64),
        penalised=np.full(len(keys), 1, dtype=np.int64),
        lone_sites=np.full(len(keys), is_lone, dtype=np.int64),
    )


def test_value_is_sum_over_count() -> None:
    stat = sums_of([[3.0, 2.0, 4.0]], [[4, 4, 4]]).stat("dice")
    assert (stat.value, stat.n, stat.undefined, stat.penalised) == (0.75, 4, 2, 1)
    assert (stat.low, stat.high) == (pytest.approx(0.5125), pytest.approx(0.9875))


def test_without_replicates_there_is_no_interval() -> None:
    stat = sums_of([[3.0]], [[4]]).stat("dice")
    assert (stat.value, stat.low, stat.high) == (0.75, None, None)


def test_without_cases_there_is_no_value() -> None:
    stat = sums_of([[0.0, 0.0]], [[0, 0]]).stat("dice")
    assert (stat.value, stat.n, stat.low, stat.high) == (None, 0, None, None)


def test_replicates_without_a_case_are_nan_and_not_counted() -> None:
    found = sums_of([[1.0, 0.0, 1.0, 2.0]], [[2, 0, 2, 4]])
    replicates = found.replicates("dice")
    assert np.isnan(replicates[0])
    assert replicates[1:].tolist() == [0.5, 0.5]
    stat = found.stat("dice")
    assert (stat.low, stat.high) == (0.5, 0.5)


def test_each_key_has_its_row() -> None:
    found = sums_of([[1.0, 1.0], [9.0, 6.0]], [[1, 1], [3, 3]], keys=("dice", "hd95_mm"))
    assert found.stat("hd95_mm").value == 3.0
    assert found.stat("hd95_mm").low == 2.0
    with pytest.raises(ValueError, match="tuple"):
        found.stat("nsd")


@given(seed=st.integers(0, 2**31), num=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_merging_does_not_depend_on_order_or_grouping(seed: int, num: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [
        sums_of(
            generator.integers(0, 64, size=(1, 5)).tolist(),
            generator.integers(0, 9, size=(1, 5)).tolist(),
        )
        for _ in range(num)
    ]
    whole = merge(parts)
    for order in itertools.permutations(parts):
        other = merge([merge(order[:1]), *order[1:]])
        np.testing.assert_array_equal(other.sums, whole.sums)
        np.testing.assert_array_equal(other.counts, whole.counts)
        assert other.undefined.tolist() == [2 * num]
        assert other.penalised.tolist() == [num]
        assert other.lone_sites.tolist() == [0]


def test_parts_that_do_not_fit_are_refused() -> None:
    one = sums_of([[1.0, 1.0]], [[1, 1]])
    with pytest.raises(ContributionError):
        merge([one, sums_of([[1.0]], [[1]])])
    with pytest.raises(ContributionError):
        merge([one, sums_of([[1.0, 1.0]], [[1, 1]], keys=("nsd",))])
    with pytest.raises(ContributionError):
        difference(one, sums_of([[1.0]], [[1]]), key="dice")


def test_difference_is_paired_by_replicate() -> None:
    a = sums_of([[8.0, 6.0, 10.0]], [[10, 10, 10]])
    b = sums_of([[7.0, 5.0, 9.0]], [[10, 10, 10]])
    found = difference(a, b, key="dice")
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (found.n, found.other_n) == (10, 10)
    back = difference(b, a, key="dice")
    assert (back.value, back.low) == (pytest.approx(-0.1), pytest.approx(-0.1))


def test_difference_of_a_model_to_itself_is_zero() -> None:
    a = sums_of([[8.0, 6.0, 0.0]], [[10, 10, 0]])
    found = difference(a, a, key="dice")
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_difference_leaves_out_replicates_where_one_has_no_case() -> None:
    a = sums_of([[1.0, 0.0, 1.0]], [[2, 0, 2]])
    b = sums_of([[0.5, 2.0, 0.5]], [[2, 2, 2]])
    found = difference(a, b, key="dice")
    assert (found.low, found.high) == (0.25, 0.25)


def test_difference_names_the_cases_behind_each_mean() -> None:
    a, b = sums_of([[1.0, 1.0]], [[4, 4]]), sums_of([[1.0, 1.0]], [[5, 5]])
    found = difference(a, b, key="dice")
    assert (found.n, found.other_n) == (4, 5)
    assert found.value == pytest.approx(0.05)


def test_difference_without_cases_or_replicates() -> None:
    none = sums_of([[0.0, 0.0]], [[0, 0]])
    some = sums_of([[1.0, 1.0]], [[2, 2]])
    assert difference(some, none, key="dice").value is None
    found = difference(sums_of([[1.0]], [[2]]), sums_of([[0.5]], [[2]]), key="dice")
    assert (found.value, found.low, found.high) == (0.25, None, None)


def test_no_interval_where_any_site_has_one_subject_behind_the_metric() -> None:
    many = sums_of([[3.0, 2.0, 4.0]], [[4, 4, 4]])
    one = sums_of([[1.0, 0.5, 1.5]], [[2, 1, 3]], is_lone=True)
    assert (one.stat("dice").low, one.stat("dice").high) == (None, None)
    merged = merge([many, one, many]).stat("dice")
    assert merged.n == 10
    assert (merged.low, merged.high) == (None, None)
    for a, b in ((many, one), (one, many)):
        found = difference(a, b, key="dice")
        assert found.value is not None
        assert (found.low, found.high) == (None, None)


def test_a_site_without_the_metric_takes_no_interval_away() -> None:
    many = sums_of([[3.0, 2.0, 4.0]], [[4, 4, 4]])
    none = sums_of([[0.0, 0.0, 0.0]], [[0, 0, 0]])
    assert merge([many, none]).stat("dice").low == many.stat("dice").low
