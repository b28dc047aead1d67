"""From the facts of a site's cases to the fingerprint that may leave it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from fedvol.plan import (
    EXTENT,
    SPACING,
    CaseFacts,
    ChannelFingerprint,
    ClassFingerprint,
    Fingerprint,
    Histogram,
)
from fedvol.privacy.coarsening import Tally, coarsen, withheld_classes
from fedvol.privacy.floors import is_small
from fedvol.types import SubjectId

Key = TypeVar("Key", bound=Hashable)

_NOTHING = Histogram(cells=())


def fingerprint(
    cases: Sequence[CaseFacts], *, channels: Sequence[str], classes: Sequence[str], floor: int
) -> Fingerprint:
    """Count a site's cases; no figure, nor a total less its parts, has few subjects behind it.

    Args:
        cases: Labelled training cases; of none, or of at least `floor` subjects.
        channels: Names of the channels, in order.
        classes: Names of the classes, in order of their index.
        floor: Fewest subjects behind a figure; 1 withholds nothing.

    Raises:
        ValueError: There are cases, but of fewer subjects than the floor.
    """
    subjects = {case.subject for case in cases}
    if cases and len(subjects) < floor:
        raise ValueError("too few subjects for any figure")
    withheld: set[str] = set()
    several = len(_owners_of_several(cases))
    if is_small(several, floor=floor):  # cases minus subjects would be a figure about these
        withheld.add("subjects")
    told = _channels(cases, channels=channels, floor=floor, withheld=withheld)
    return Fingerprint(
        cases=len(cases),
        subjects=0 if "subjects" in withheld else len(subjects),
        spacing_mm=_per_axis(cases, lambda c, axis: SPACING.leaf(c.spacing_mm[axis]), floor=floor),
        extent_mm=_per_axis(
            cases, lambda c, axis: EXTENT.leaf(c.shape[axis] * c.spacing_mm[axis]), floor=floor
        ),
        channels=told,
        classes=_classes(cases, classes=classes, floor=floor, withheld=withheld),
        withheld=tuple(sorted(withheld)),
    )


def _per_axis(
    cases: Sequence[CaseFacts], leaf: Callable[[CaseFacts, int], int], *, floor: int
) -> tuple[Histogram, Histogram, Histogram]:
    def along(axis: int) -> Histogram:
        found = coarsen(
            _grouped((leaf(case, axis), 1, case.subject) for case in cases), floor=floor
        )
        assert found is not None
        return found

    return along(0), along(1), along(2)


def _channels(
    cases: Sequence[CaseFacts], *, channels: Sequence[str], floor: int, withheld: set[str]
) -> tuple[ChannelFingerprint, ...]:
    told: list[ChannelFingerprint] = []
    for index, name in enumerate(channels):
        facts = [(case.subject, case.intensities[index]) for case in cases]
        leaves = _grouped(
            (leaf, count, subject)
            for subject, one in facts
            for leaf, count in zip(one.leaves, one.counts, strict=True)
        )
        histogram = coarsen(leaves, floor=floor)
        if histogram is None:
            withheld.add(f"channels/{name}")
        given = [] if histogram is None else [one for _, one in facts]
        told.append(
            ChannelFingerprint(
                name=name,
                histogram=histogram or _NOTHING,
                sum=str(sum(one.sum for one in given)),
                sum_of_squares=str(sum(one.sum_of_squares for one in given)),
            )
        )
    return tuple(told)


def _classes(
    cases: Sequence[CaseFacts], *, classes: Sequence[str], floor: int, withheld: set[str]
) -> tuple[ClassFingerprint, ...]:
    tallies = _grouped(
        (name, count, case.subject)
        for case in cases
        for name, count in case.voxels.items()
        if count
    )
    hidden = withheld_classes(tallies, floor=floor)
    told: list[ClassFingerprint] = []
    for name in classes:
        tally = tallies.get(name, {})
        without = {case.subject for case in cases if not case.voxels.get(name)}
        # Those with the class, and those without it: one follows from the other.
        hides_cases = any(is_small(len(group), floor=floor) for group in (tally, without))
        withheld |= {f"classes/{name}/voxels"} if name in hidden else set()
        withheld |= {f"classes/{name}/cases"} if hides_cases else set()
        told.append(
            ClassFingerprint(
                name=name,
                cases=0 if hides_cases else sum(1 for case in cases if case.voxels.get(name)),
                voxels=0 if name in hidden else sum(tally.values()),
            )
        )
    return tuple(told)


def _grouped(entries: Iterable[tuple[Key, int, SubjectId]]) -> dict[Key, Tally]:
    """Leaf or class, count and subject of each entry, put together by the first."""
    tallies = defaultdict[Key, Counter[SubjectId]](Counter)
    for key, count, subject in entries:
        tallies[key][subject] += count
    return dict(tallies)


def _owners_of_several(cases: Sequence[CaseFacts]) -> set[SubjectId]:
    times = Counter(case.subject for case in cases)
    return {subject for subject, num in times.items() if num > 1}
