"""No figure of a fingerprint, nor what figures of it leave over, is about few subjects."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

import pytest
from case_facts import CHANNELS, CLASSES, cases, make_case
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.plan import EXTENT, SPACING, CaseFacts, Fingerprint, Histogram
from fedvol.privacy.fingerprints import fingerprint
from fedvol.types import SubjectId

Owners = Counter[SubjectId]


@st.composite
def small_sites(draw: st.DrawFn) -> tuple[list[CaseFacts], int]:
    floor = draw(st.integers(2, 5))
    return draw(cases(min_subjects=floor, max_subjects=3 * floor)), floor


def count(site: Sequence[CaseFacts], *, floor: int) -> Fingerprint:
    return fingerprint(site, channels=CHANNELS, classes=CLASSES, floor=floor)


def owners_of_pieces(histogram: Histogram, leaves: dict[int, Owners]) -> list[Owners]:
    """Who is behind each bin, and behind what is withheld, found again from the facts alone.

    A bin that tells less than lies in it has lost whole subjects, those with least first.
    """
    everyone = sum(leaves.values(), Owners())
    pieces: list[Owners] = []
    for level, index, told in histogram.cells:
        inside = [owners for leaf, owners in leaves.items() if leaf >> level == index]
        behind = sum(inside, Owners())
        for subject in sorted(behind, key=lambda subject: (behind[subject], subject)):
            if behind.total() <= told:
                break
            del behind[subject]
        assert behind.total() == told
        pieces.append(behind)
    withheld = everyone - sum(pieces, Owners())
    assert withheld.total() == histogram.withheld
    assert everyone.total() == histogram.total
    return [*pieces, withheld] if withheld else pieces


def differences(pieces: Sequence[Owners]) -> Iterable[Owners]:
    """What every choice of pieces holds: each sum of figures, and each total less some of them."""
    for num in range(1, len(pieces) + 1):
        for chosen in combinations(pieces, num):
            yield sum(chosen, Owners())


def leaves_of(entries: Iterable[tuple[int, int, SubjectId]]) -> dict[int, Owners]:
    leaves: dict[int, Owners] = {}
    for leaf, num, subject in entries:
        leaves.setdefault(leaf, Owners())[subject] += num
    return leaves


def require_groups(pieces: Sequence[Owners], *, floor: int) -> None:
    for owners in differences(pieces):
        assert not owners or len(owners) >= floor, owners


@given(small_sites())
@settings(max_examples=60, deadline=None)
def test_every_difference_has_enough_subjects_behind_it(given_: tuple[list[CaseFacts], int]):
    site, floor = given_
    found = count(site, floor=floor)
    for axis in range(3):
        for histogram, leaf in (
            (found.spacing_mm[axis], lambda c, a=axis: SPACING.leaf(c.spacing_mm[a])),
            (found.extent_mm[axis], lambda c, a=axis: EXTENT.leaf(c.shape[a] * c.spacing_mm[a])),
        ):
            leaves = leaves_of((leaf(case), 1, case.subject) for case in site)
            require_groups(owners_of_pieces(histogram, leaves), floor=floor)

    (channel,) = found.channels
    voxels = leaves_of(
        (leaf, num, case.subject)
        for case in site
        for leaf, num in zip(case.intensities[0].leaves, case.intensities[0].counts, strict=True)
    )
    if "channels/CT" in found.withheld:
        assert 0 < len(sum(voxels.values(), Owners())) < floor
        assert (channel.histogram.total, channel.sum, channel.sum_of_squares) == (0, "0", "0")
    else:
        require_groups(owners_of_pieces(channel.histogram, voxels), floor=floor)

    held = {
        name: Owners({c.subject: 0 for c in site})
        + Owners([c.subject for c in site for _ in range(c.voxels[name])])
        for name in CLASSES
    }
    told = [one for one in found.classes if f"classes/{one.name}/voxels" not in found.withheld]
    assert all(one.voxels == held[one.name].total() for one in told)
    pieces = [held[one.name] for one in told if held[one.name]]
    if rest := sum((held[name] for name in {*CLASSES} - {one.name for one in told}), Owners()):
        pieces.append(rest)  # the labelled voxels less those of the told classes
    if "channels/CT" not in found.withheld:
        require_groups(pieces, floor=floor)
    for one in found.classes:
        if f"classes/{one.name}/cases" in found.withheld:
            continue
        having = {c.subject for c in site if c.voxels[one.name]}
        lacking = {c.subject for c in site if not c.voxels[one.name]}
        assert one.cases == sum(1 for case in site if case.voxels[one.name])
        assert all(not group or len(group) >= floor for group in (having, lacking))

    if "subjects" not in found.withheld:
        several = [s for s, num in Counter(case.subject for case in site).items() if num > 1]
        assert found.cases - found.subjects == 0 or len(several) >= floor


def like(subject: str, *, edge_mm: float = 1.0, voxels: int = 4) -> CaseFacts:
    return make_case(
        subject,
        shape=(64, 64, 64),
        spacing_mm=(1.0, 1.0, edge_mm),
        voxels=([40.0] * voxels, [60.0] * voxels),
    )


def test_one_odd_case_leaves_the_rest_told_finely() -> None:
    site = [like(f"S{number}") for number in range(12)] + [like("odd", edge_mm=5.0)]
    thick = count(site, floor=5).spacing_mm[2]
    assert thick.cells == ((0, SPACING.leaf(1.0), 8),)
    assert thick.withheld == 5  # the odd one hides among four others


def test_too_few_for_two_groups_tell_nothing_rather_than_a_remainder() -> None:
    site = [like(f"S{number}") for number in range(11)] + [like("odd", edge_mm=5.0)]
    thick = count(site, floor=8).spacing_mm[2]
    assert (thick.cells, thick.withheld) == ((), 12)


def test_a_floor_of_one_withholds_nothing() -> None:
    found = count([like("S0"), like("S0", edge_mm=5.0)], floor=1)
    assert found.withheld == ()
    assert (found.cases, found.subjects) == (2, 1)
    assert [one.voxels for one in found.classes] == [8, 8]


def test_of_two_classes_a_rare_one_hides_the_other() -> None:
    """Else the labelled voxels less the other's are the rare one's."""
    site = [like(f"S{number}") for number in range(8)]
    site = [make_case(case.subject, shape=case.shape, spacing_mm=case.spacing_mm,
                      voxels=([40.0] * 4, [60.0] * (number < 2)))
            for number, case in enumerate(site)]  # fmt: skip
    found = count(site, floor=3)
    assert {"classes/lesion/voxels", "classes/liver/voxels"} <= {*found.withheld}
    assert found.channels[0].histogram.total == 34


def test_too_few_subjects_are_a_slip_of_the_caller() -> None:
    with pytest.raises(ValueError, match="too few subjects"):
        count([like("S0"), like("S1")], floor=3)
