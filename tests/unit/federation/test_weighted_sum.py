import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedvol.errors import ContributionError
from fedvol.federation import average
from fedvol.plan import TensorKind, TensorSpec

NAMES = ("a.weight", "b.bias")


def spec(name: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(name=name, shape=shape, dtype="float32", kind=TensorKind.ENCODER)


SPECS = (spec(NAMES[0], (3, 2)), spec(NAMES[1], (4,)))


class Arrays:
    def __init__(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        self._arrays = arrays

    def read(self, name: str) -> NDArray[np.generic]:
        return self._arrays[name]


def updates(seed: int, num_sites: int) -> list[tuple[float, Arrays]]:
    rng = np.random.default_rng(seed)
    return [
        (
            float(rng.integers(1, 1000)),
            Arrays(
                {
                    one.name: (rng.normal(size=one.shape) * 10.0 ** rng.integers(-6, 3)).astype(
                        "f4"
                    )
                    for one in SPECS
                }
            ),
        )
        for _ in range(num_sites)
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_average_equals_numpy(seed: int, num_sites: int) -> None:
    parts = updates(seed, num_sites)
    means = dict(average(parts, specs=SPECS))
    assert list(means) == list(NAMES)
    for name in NAMES:
        stack = np.stack([reader.read(name).astype(np.float64) for _, reader in parts])
        expected = np.average(stack, axis=0, weights=[weight for weight, _ in parts])
        assert means[name].dtype == np.float64
        np.testing.assert_allclose(means[name], expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.randoms())
def test_order_of_arrival_changes_no_bit(seed: int, random) -> None:
    by_site = dict(zip("abcdef", updates(seed, 6), strict=True))
    arrived = list(by_site.items())
    random.shuffle(arrived)
    one = dict(average([by_site[site] for site in sorted(by_site)], specs=SPECS))
    other = dict(average([part for _, part in sorted(arrived, key=lambda p: p[0])], specs=SPECS))
    for name in NAMES:
        assert one[name].tobytes() == other[name].tobytes()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_one_site_gives_its_update_bit_for_bit(seed: int) -> None:
    ((weight, reader),) = updates(seed, 1)
    for name, mean in average([(weight, reader)], specs=SPECS):
        assert mean.astype(np.float32).tobytes() == reader.read(name).tobytes()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 2.0, 1024.0]))
def test_common_factor_of_weights_does_not_matter(seed: int, factor: float) -> None:
    parts = updates(seed, 4)
    one = dict(average(parts, specs=SPECS))
    other = dict(average([(weight * factor, reader) for weight, reader in parts], specs=SPECS))
    for name in NAMES:
        np.testing.assert_array_equal(one[name], other[name])


def test_site_of_weight_zero_adds_nothing() -> None:
    (first, (_, second)) = updates(3, 2)
    means = dict(average([first, (0.0, second)], specs=SPECS))
    np.testing.assert_array_equal(means[NAMES[1]], first[1].read(NAMES[1]).astype(np.float64))


@pytest.mark.parametrize(
    "weights", [(0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0), (float("inf"), 1.0), ()]
)
def test_senseless_weights_are_refused(weights: tuple[float, ...]) -> None:
    parts = [(weight, reader) for weight, (_, reader) in zip(weights, updates(0, 2), strict=False)]
    with pytest.raises(ContributionError, match="FV-FED-002"):
        average(parts, specs=SPECS)


def test_other_shape_is_refused() -> None:
    parts = [
        (1.0, Arrays({"x": np.ones((2, 1), "f4")})),
        (1.0, Arrays({"x": np.ones((1, 2), "f4")})),
    ]
    with pytest.raises(ContributionError, match="tensor x"):
        list(average(parts, specs=[spec("x", (2, 1))]))


def test_memory_is_that_of_one_tensor_whatever_the_number_of_sites() -> None:
    size = 1 << 18
    names = [f"t{index}" for index in range(8)]

    class Made:
        def read(self, name: str) -> NDArray[np.generic]:
            return np.full(size, int(name[1:]) + 1, dtype=np.float32)

    def peak(num_sites: int) -> int:
        parts = [(1.0, Made()) for _ in range(num_sites)]
        tracemalloc.start()
        for name, mean in average(parts, specs=[spec(name, (size,)) for name in names]):
            assert mean[0] == pytest.approx(int(name[1:]) + 1)
            del mean
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # Accumulator and product in float64, one tensor in float32, and some change.
    assert peak(2) < size * (8 + 8 + 4) * 1.5 + (8 * size)
    assert peak(20) < peak(2) * 1.1
