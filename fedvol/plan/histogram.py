"""`Histogram`: counts in fixed bins, which add up over sites, and quantiles of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Annotated, Self

from pydantic import Field

from fedvol.config.base import Section
from fedvol.plan.scales import Scale

Count = Annotated[int, Field(ge=0, lt=2**53)]
Level = Annotated[int, Field(ge=0, le=40)]
Cell = tuple[Level, Count, Annotated[int, Field(ge=1, lt=2**53)]]
"""Level, number of the bin on that level, count."""


class Histogram(Section):
    """Counts of one quantity.

    No two bins of one site overlap. Several sites' may: where few subjects lie, a site gives a
    coarser bin than another.
    """

    cells: tuple[Cell, ...]
    """Level, bin and count of each bin that holds something, in this order."""
    withheld: Count = 0
    """Counted in bins that are not told, because few subjects lie there."""

    @property
    def total(self) -> int:
        """Everything counted, told or not."""
        return self.told + self.withheld

    @property
    def told(self) -> int:
        """What is counted in the bins."""
        return sum(count for _, _, count in self.cells)

    @classmethod
    def added(cls, parts: Iterable[Self]) -> Self:
        """The histogram of all parts together, in whatever order they are."""
        counts, withheld = Counter[tuple[int, int]](), 0
        for part in parts:
            withheld += part.withheld
            for level, index, count in part.cells:
                counts[level, index] += count
        cells = tuple((level, index, counts[level, index]) for level, index in sorted(counts))
        return cls(cells=cells, withheld=withheld)

    def quantile(self, share: Fraction, *, scale: Scale) -> Fraction:
        """The value below which a share of what is told lies.

        A coarse bin counts as spread evenly over its leaves. Where the share falls exactly
        between two leaves, the mean of both: the median of an even number of values is what it
        usually is (Hyndman and Fan 1996, definition 2).

        Args:
            share: From 0 to 1.
            scale: Between leaves and values.

        Raises:
            ValueError: Nothing is told.
        """
        if not self.cells:
            raise ValueError("a histogram without cells has no quantiles")
        wanted = share * self.told
        low = _first_leaf(self.cells, reach=lambda below: below >= wanted and below > 0)
        if _below(self.cells, low) != wanted or share >= 1:
            return scale.value(low)
        high = _first_leaf(self.cells, reach=lambda below: below > wanted)
        return (scale.value(low) + scale.value(high)) / 2


def _first_leaf(cells: Sequence[Cell], *, reach: Callable[[Fraction], bool]) -> int:
    """The first leaf at which the count up to it satisfies a condition; halving the interval."""
    low, high = -1, max((index + 1) << level for level, index, _ in cells) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if reach(_below(cells, middle)):
            high = middle
        else:
            low = middle
    return high


def _below(cells: Sequence[Cell], leaf: int) -> Fraction:
    """What is counted up to and including a leaf."""
    whole, parts = 0, Fraction(0)
    for level, index, count in cells:
        first = index << level
        inside = min(leaf - first + 1, 1 << level)
        if inside == 1 << level:
            whole += count
        elif inside > 0:
            parts += Fraction(count * inside, 1 << level)
    return whole + parts
