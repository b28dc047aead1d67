"""Bins as fine as the site's floor allows: none that is told has fewer subjects behind it.

The rule, from the one bin that holds everything downwards: a bin is halved as long as each half
that holds anything has enough subjects. Where one half has too few, and holds at most a tenth of
the bin, it is withheld and the other half goes on; else the bin is told whole. What is withheld
together is a group of its own, because totals are known: should too few subjects be behind it, the
smallest told bin is withheld too.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, NamedTuple

from fedvol.plan import Histogram
from fedvol.types import SubjectId

_OUTLIERS: Final = 10
"""One part in so many of a bin may be withheld, for the rest to be told finer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What lies in one leaf or class.

    Attributes:
        count: Cases or voxels.
        subjects: Whose they are.
    """

    count: int
    subjects: AbstractSet[SubjectId]


class _Leaf(NamedTuple):
    number: int
    group: Group


@dataclass(frozen=True, slots=True)
class _Told:
    level: int
    index: int
    leaves: Sequence[_Leaf]

    @property
    def count(self) -> int:
        return sum(leaf.group.count for leaf in self.leaves)


def coarsen(leaves: Mapping[int, Group], *, floor: int) -> Histogram | None:
    """The histogram that may leave; None if too few subjects are behind all of it.

    Args:
        leaves: What lies in each leaf; only leaves that hold something.
        floor: Fewest subjects behind a figure; 1 tells every leaf.
    """
    ordered = [_Leaf(index, leaves[index]) for index in sorted(leaves)]
    if floor <= 1 or not ordered:
        return Histogram(cells=tuple((0, leaf.number, leaf.group.count) for leaf in ordered))
    if len(_subjects(ordered)) < floor:
        return None
    told: list[_Told] = []
    withheld: list[_Leaf] = []
    level = (ordered[0].number ^ ordered[-1].number).bit_length()
    _halve(ordered, level, floor=floor, told=told, withheld=withheld)
    if withheld and len(_subjects(withheld)) < floor:
        smallest = min(told, key=lambda cell: (cell.count, cell.level, cell.index))
        told.remove(smallest)
        withheld += smallest.leaves
    cells = sorted((cell.level, cell.index, cell.count) for cell in told)
    return Histogram(cells=tuple(cells), withheld=sum(leaf.group.count for leaf in withheld))


def withheld_classes(classes: Mapping[str, Group], *, floor: int) -> frozenset[str]:
    """Classes whose voxels are not told, so that neither they nor their sum show a small group.

    The sum over all classes is known: it is the number of labelled voxels.

    Args:
        classes: Voxels of each class, and whose they are.
        floor: Fewest subjects behind a figure.
    """
    held = {name: group for name, group in classes.items() if group.count}
    hidden = {name for name, group in held.items() if len(group.subjects) < floor}
    while hidden and hidden != held.keys():
        behind = frozenset[SubjectId]().union(*(held[name].subjects for name in hidden))
        if len(behind) >= floor:
            break
        hidden.add(min(held.keys() - hidden, key=lambda name: (held[name].count, name)))
    return frozenset(hidden)


def _halve(
    leaves: Sequence[_Leaf],
    level: int,
    *,
    floor: int,
    told: list[_Told],
    withheld: list[_Leaf],
) -> None:
    """Tell a bin whole or in parts; at least `floor` subjects are behind it."""
    while level:
        middle = ((leaves[0].number >> level) << level) + (1 << (level - 1))
        halves = [
            half
            for half in (
                [leaf for leaf in leaves if leaf.number < middle],
                [leaf for leaf in leaves if leaf.number >= middle],
            )
            if half
        ]
        few = [half for half in halves if len(_subjects(half)) < floor]
        if not few and len(halves) == 2:
            for half in halves:
                _halve(half, level - 1, floor=floor, told=told, withheld=withheld)
            return
        if few:
            (small, *both) = few
            if both or _OUTLIERS * _count(small) > _count(leaves):
                break
            withheld += small
            halves.remove(small)
        leaves, level = halves[0], level - 1
    told.append(_Told(level, leaves[0].number >> level, leaves))


def _subjects(leaves: Sequence[_Leaf]) -> AbstractSet[SubjectId]:
    return frozenset[SubjectId]().union(*(leaf.group.subjects for leaf in leaves))


def _count(leaves: Sequence[_Leaf]) -> int:
    return sum(leaf.group.count for leaf in leaves)
