"""`MetricSums` as named arrays for the wire and for disk, and back."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedvol.errors import ContributionError
from fedvol.federation.statistics import MetricSums
from fedvol.types import State

_Scalar = TypeVar("_Scalar", bound=np.generic)

ARRAY_NAMES = ("sums", "counts", "undefined", "penalised", "lone_sites")
"""Names of the arrays of an evaluation."""


def to_arrays(sums: MetricSums) -> tuple[State, tuple[str, ...]]:
    """The arrays of an evaluation by name, and its metric names in row order."""
    arrays: State = {
        "sums": sums.sums,
        "counts": sums.counts,
        "undefined": sums.undefined,
        "penalised": sums.penalised,
        "lone_sites": sums.lone_sites,
    }
    return arrays, sums.keys


def from_arrays(arrays: State, *, keys: Sequence[str]) -> MetricSums:
    """Put an evaluation together again; types and shapes are checked, values are not.

    Raises:
        ContributionError: An array is missing, unknown, or of another type or shape.
    """
    if set(arrays) != set(ARRAY_NAMES):
        raise _unlike("arrays are named otherwise than agreed")
    num = len(keys)
    sums = _typed(arrays["sums"], np.float64, name="sums")
    counts = _typed(arrays["counts"], np.float64, name="counts")
    rows = {name: _typed(arrays[name], np.int64, name=name) for name in ARRAY_NAMES[2:]}
    if sums.ndim != 2 or sums.shape[0] != num or sums.shape[1] < 1 or counts.shape != sums.shape:
        raise _unlike(f"sums and counts are not {num} rows of the same length")
    if any(row.shape != (num,) for row in rows.values()):
        raise _unlike(f"{', '.join(rows)} do not hold {num} values each")
    return MetricSums(keys=tuple(keys), sums=sums, counts=counts, **rows)


def _typed(array: NDArray[np.generic], dtype: type[_Scalar], *, name: str) -> NDArray[_Scalar]:
    if array.dtype != np.dtype(dtype):
        raise _unlike(f"array {name} has type {array.dtype} instead of {np.dtype(dtype)}")
    return array.view(dtype)


def _unlike(what: str) -> ContributionError:
    return ContributionError(
        "evaluation", what, "Bring the site to the run's fedvol version, or leave it out."
    )
