"""Bins as fine as the site's floor allows: none that is told has fewer subjects behind it.

The rule, from the one bin that holds everything downwards: a bin is halved as long as each half
that holds anything has enough subjects. Where one half has too few, and holds at most a tenth of
the bin, it is withheld and the other half goes on; else the bin is told whole.

What is withheld together is a group of its own, because totals are known. Should too few subjects
be behind it, others join them: those with least in the told bin of most subjects, as long as
enough stay there; else the smallest told bin is withheld too.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from fedvol.plan import Histogram
from fedvol.privacy.floors import is_small
from fedvol.types import SubjectId

Tally = Mapping[SubjectId, int]
"""How many cases or voxels each subject has in one leaf, bin or class; none has 0."""

_OUTLIERS: Final = 10
"""One part in so many of a bin may be withheld, for the rest to be told finer."""


class _Leaf(NamedTuple):
    number: int
    tally: Tally


@dataclass(frozen=True, slots=True)
class _Told:
    level: int
    index: int
    tally: Tally

    @property
    def count(self) -> int:
        return sum(self.tally.values())


def coarsen(leaves: Mapping[int, Tally], *, floor: int) -> Histogram | None:
    """The histogram that may leave; None if too few subjects are behind all of it.

    Args:
        leaves: Who has how much in each leaf; only leaves that hold something.
        floor: Fewest subjects behind a figure; 1 tells every leaf.
    """
    ordered = [_Leaf(index, leaves[index]) for index in sorted(leaves)]
    if floor <= 1 or not ordered:
        cells = ((0, leaf.number, sum(leaf.tally.values())) for leaf in ordered)
        return Histogram(cells=tuple(cells))
    if _num_subjects(ordered) < floor:
        return None
    told: list[_Told] = []
    outliers: list[_Leaf] = []
    level = (ordered[0].number ^ ordered[-1].number).bit_length()
    _halve(ordered, level, floor=floor, told=told, outliers=outliers)
    withheld = Counter(_merged(outliers))
    if is_small(len(withheld), floor=floor):
        withheld = _joined(withheld, told=told, floor=floor)
    cells = sorted((cell.level, cell.index, cell.count) for cell in told)
    return Histogram(cells=tuple(cells), withheld=withheld.total())


def withheld_classes(classes: Mapping[str, Tally], *, floor: int) -> frozenset[str]:
    """Classes whose voxels are not told, so that neither they nor their sum show a small group.

    The sum over all classes is known: it is the number of labelled voxels.

    Args:
        classes: Who has how many voxels of each class.
        floor: Fewest subjects behind a figure.
    """
    held = {name: tally for name, tally in classes.items() if tally}
    hidden = {name for name, tally in held.items() if len(tally) < floor}
    while hidden and hidden != held.keys():
        if len(frozenset[SubjectId]().union(*(held[name] for name in hidden))) >= floor:
            break
        hidden.add(min(held.keys() - hidden, key=lambda name: (sum(held[name].values()), name)))
    return frozenset(hidden)


def _halve(
    leaves: Sequence[_Leaf],
    level: int,
    *,
    floor: int,
    told: list[_Told],
    outliers: list[_Leaf],
) -> None:
    """Tell a bin whole or in parts; at least `floor` subjects are behind it."""
    while level:
        middle = ((leaves[0].number >> level) << level) + (1 << (level - 1))
        parts = (
            [leaf for leaf in leaves if leaf.number < middle],
            [leaf for leaf in leaves if leaf.number >= middle],
        )
        halves = [half for half in parts if half]
        few = [half for half in halves if _num_subjects(half) < floor]
        if not few and len(halves) == 2:
            for half in halves:
                _halve(half, level - 1, floor=floor, told=told, outliers=outliers)
            return
        if few:
            if len(few) == 2 or _OUTLIERS * _count(few[0]) > _count(leaves):
                break
            outliers += few[0]
            halves.remove(few[0])
        leaves, level = halves[0], level - 1
    told.append(_Told(level, leaves[0].number >> level, _merged(leaves)))


def _joined(withheld: Counter[SubjectId], *, told: list[_Told], floor: int) -> Counter[SubjectId]:
    """What is withheld and more from what is told, so that `floor` subjects are behind it."""
    largest = max(told, key=lambda cell: (len(cell.tally), cell.count, -cell.level, -cell.index))
    staying, joined = Counter(largest.tally), withheld.copy()
    for subject in sorted(largest.tally, key=lambda name: (largest.tally[name], name)):
        if len(joined) >= floor:
            break
        joined[subject] += staying.pop(subject)
    if len(joined) >= floor and len(staying) >= floor:
        told[told.index(largest)] = _Told(largest.level, largest.index, staying)
        return joined
    smallest = min(told, key=lambda cell: (cell.count, cell.level, cell.index))
    told.remove(smallest)
    return withheld + Counter(smallest.tally)


def _merged(leaves: Iterable[_Leaf]) -> Tally:
    total = Counter[SubjectId]()
    for leaf in leaves:
        total.update(leaf.tally)
    return total


def _num_subjects(leaves: Iterable[_Leaf]) -> int:
    return len(frozenset[SubjectId]().union(*(leaf.tally for leaf in leaves)))


def _count(leaves: Iterable[_Leaf]) -> int:
    return sum(sum(leaf.tally.values()) for leaf in leaves)
