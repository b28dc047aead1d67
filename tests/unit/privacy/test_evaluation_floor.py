"""No figure of an evaluation, nor what figures of it leave over, is about few subjects."""

from fractions import Fraction
from itertools import combinations, product
from typing import Literal, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.privacy.judged_cases import JudgedCases, hidden_metrics
from fedvol.types import SubjectId

Mask = Literal["absent", "found", "missed"]
MASKS: tuple[Mask, ...] = ("absent", "found", "found", "found", "missed")


class Case(NamedTuple):
    subject: str
    masks: tuple[Mask, ...]


class Site(NamedTuple):
    floor: int
    cases: list[Case]

    @property
    def num_classes(self) -> int:
        return len(self.cases[0].masks)


@st.composite
def small_sites(draw: st.DrawFn) -> Site:
    """Sites a little above the floor, whose subjects are mostly alike."""
    floor, num_classes = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    usual = draw(st.tuples(*[st.sampled_from(MASKS)] * num_classes))
    odd = st.tuples(*[st.sampled_from(MASKS)] * num_classes)
    cases = [
        Case(f"S{number}", draw(st.one_of(st.just(usual), odd)))
        for number in range(draw(st.integers(floor, 3 * floor)))
        for _ in range(draw(st.sampled_from((1, 1, 2))))
    ]
    return Site(floor, cases)


def told(site: Site) -> set[int | None]:
    """What is told of a metric: each class by its number, the mean over classes as None."""
    masks = np.array([[mask != "absent" for mask in case.masks] for case in site.cases])
    missed = np.array([[mask == "missed" for mask in case.masks] for case in site.cases])
    keys = ("dice", *(f"dice/{number}" for number in range(site.num_classes)))
    behind = JudgedCases(
        subjects=tuple(SubjectId(case.subject) for case in site.cases),
        defined=np.column_stack([masks.any(axis=1), masks]),
        penalised=np.column_stack([missed.any(axis=1), missed]),
    )
    hidden = hidden_metrics(behind, keys=keys, floor=site.floor)
    return {
        None if number == 0 else number - 1 for number, key in enumerate(keys) if key not in hidden
    }


def group(site: Site, what: int | None, *, missed: bool) -> frozenset[int]:
    """Cases that a count is of: those with a value, or those of them that are penalised."""
    wanted = {"missed"} if missed else {"found", "missed"}
    return frozenset(
        number
        for number, case in enumerate(site.cases)
        if wanted & set(case.masks if what is None else case.masks[what : what + 1])
    )


def require_group(site: Site, cases: frozenset[int]) -> None:
    subjects = {site.cases[number].subject for number in cases}
    assert not subjects or len(subjects) >= site.floor, subjects


@given(small_sites())
@settings(max_examples=400, deadline=None)
def test_every_count_and_every_difference_is_of_enough_subjects(site: Site) -> None:
    groups = {frozenset(range(len(site.cases)))}
    for what in told(site):
        groups |= {group(site, what, missed=missed) for missed in (False, True)}
    for one in groups:
        require_group(site, one)
    for one, other in combinations(groups, 2):
        if one < other or other < one:
            require_group(site, one ^ other)


@given(small_sites())
@settings(max_examples=400, deadline=None)
def test_the_mean_less_its_classes_is_of_enough_subjects(site: Site) -> None:
    """Written out: what each case and class counts in the mean, less multiples of the classes."""
    given_ = told(site)
    if None not in given_:
        return
    multiples = [Fraction(0), *(Fraction(1, num + 1) for num in range(site.num_classes))]
    choices = [
        multiples if number in given_ else [Fraction(0)] for number in range(site.num_classes)
    ]
    for chosen, dice in product(product(*choices), (True, False)):
        left: set[int] = set()
        for number, case in enumerate(site.cases):
            num_defined = sum(mask != "absent" for mask in case.masks)
            for mask, multiple in zip(case.masks, chosen, strict=True):
                is_known = mask == "absent" or (dice and mask == "missed")  # Dice 0
                if not is_known and Fraction(1, num_defined) != multiple:
                    left.add(number)
        require_group(site, frozenset(left))


def test_a_site_whose_cases_are_alike_tells_everything() -> None:
    alike = Site(3, [Case(f"S{number}", ("found", "found")) for number in range(3)])
    assert told(alike) == {None, 0, 1}
    missed = Site(3, [Case(f"S{number}", ("found", "missed")) for number in range(3)])
    assert told(missed) == {None, 0, 1}


def test_the_mean_is_kept_and_classes_go() -> None:
    odd = [Case("O", ("found", "found", "absent"))]
    site = Site(3, [*(Case(f"S{number}", ("found",) * 3) for number in range(9)), *odd])
    assert told(site) == {None, 0, 1}
    lesions = [Case(f"O{number}", ("found", "found")) for number in range(2)]
    site = Site(3, [*(Case(f"S{number}", ("found", "absent")) for number in range(9)), *lesions])
    assert told(site) == {None}
