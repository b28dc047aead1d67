"""Fixed bins for what is counted at sites: the same everywhere, whatever the data are.

Because no bin depends on data, adding the counts of sites gives the histogram of all their data
together, bit for bit. The finest bins are called leaves and numbered from 0; a coarser bin of
level n holds 2^n neighbouring leaves.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol, final

import numpy as np
from jaxtyping import Float, Int64

_SMALLEST: Final = -10
_LARGEST: Final = 30
_STEPS: Final = 64
_ZERO: Final = 4096
"""Leaf of intensity 0: more leaves than there are on either side of it."""

_LENGTHS: Final = 1 << 30
"""Leaves of a length: up to 107 m in the finest steps."""

FIXED_POINT: Final = 1024
"""Intensities are summed as whole multiples of 1/1024, so that sums are exact."""


class Scale(Protocol):
    """Between values and leaves."""

    @property
    def num_leaves(self) -> int:
        """How many leaves there are; a power of 2."""
        ...

    def value(self, leaf: int) -> Fraction:
        """The value that a leaf stands for."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScale:
    """Leaves of one width, each around a multiple of it.

    Attributes:
        per_unit: Leaves per millimetre.
    """

    per_unit: int

    @property
    def num_leaves(self) -> int:
        """How many leaves there are."""
        return _LENGTHS

    def leaf(self, value: float) -> int:
        """The leaf nearest to a value above 0; the first is 1."""
        return min(max(1, round(value * self.per_unit)), _LENGTHS - 1)

    def value(self, leaf: int) -> Fraction:
        """The middle of a leaf; 0 holds nothing and stands for the first."""
        return Fraction(max(1, leaf), self.per_unit)


@final
@dataclass(frozen=True, slots=True)
class IntensityScale:
    """Intensities rounded to seven binary digits: 64 leaves from each power of 2 to the next.

    A leaf's width is at most 1/64 of its value, so no intensity moves by more than 0.8 %; whole
    Hounsfield units up to 128 are exact. Below 2^-10 is 0; beyond 2^30 is 2^30.
    """

    @property
    def num_leaves(self) -> int:
        """How many leaves there are."""
        return 2 * _ZERO

    def leaves(self, values: Float[np.ndarray, " voxel"]) -> Int64[np.ndarray, " voxel"]:
        """The leaf of each intensity; finite values only."""
        size = np.minimum(np.abs(values.astype(np.float64)), 2.0**_LARGEST)
        mantissa, exponent = np.frexp(size)  # size = mantissa * 2^exponent, mantissa in [1/2, 1)
        step = np.rint((2 * mantissa - 1) * _STEPS).astype(np.int64)
        rank = (exponent.astype(np.int64) - 1 - _SMALLEST) * _STEPS + step + 1
        rank = np.where(size < 2.0**_SMALLEST, 0, rank)
        return _ZERO + np.where(values < 0, -rank, rank)

    def value(self, leaf: int) -> Fraction:
        """The intensity a leaf is around."""
        rank = abs(leaf - _ZERO)
        if rank == 0:
            return Fraction(0)
        octave, step = divmod(rank - 1, _STEPS)
        size = Fraction(2) ** (octave + _SMALLEST) * (1 + Fraction(step, _STEPS))
        return -size if leaf < _ZERO else size


SPACING: Final = LinearScale(per_unit=10_000)
"""Voxel edges, in steps of 0.0001 mm: a volume whose edges are the plan's is not resampled."""

EXTENT: Final = LinearScale(per_unit=10)
"""Edges of whole volumes, in steps of 0.1 mm."""

INTENSITY: Final = IntensityScale()
"""Intensities of any kind."""


def exact_sums(values: Float[np.ndarray, " voxel"]) -> tuple[int, int]:
    """Sum of values and of their squares, in 1/1024 and 1/1024^2, exact whatever the order."""
    total = squares = 0
    for start in range(0, values.size, 1 << 20):
        part = values[start : start + (1 << 20)].astype(np.float64)
        fixed = np.rint(np.clip(part, -(2.0**_LARGEST), 2.0**_LARGEST) * FIXED_POINT)
        whole = fixed.astype(np.int64)
        # Two digits of 2^20, so that no product or sum leaves 64 bits.
        high, low = whole >> 20, whole & ((1 << 20) - 1)
        total += int(whole.sum())
        squares += (int((high * high).sum()) << 40) + (int((high * low).sum()) << 21)
        squares += int((low * low).sum())
    return total, squares
