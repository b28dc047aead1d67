from dataclasses import replace
from pathlib import Path

import pytest

from fedvol.config.data import ColumnSplit, FewLabels
from fedvol.data.case_table import SplitName
from fedvol.data.few_labels import require_known_sites, with_few_labels
from fedvol.data.layout import CaseEntry
from fedvol.data.splits import assign_splits
from fedvol.errors import SplitError
from fedvol.types import CaseId, SiteId, SubjectId

SITE = SiteId("site_a")


def entry(number: int, *, split: SplitName = "train", site: SiteId = SITE) -> CaseEntry:
    """One of two labelled cases of a subject."""
    return CaseEntry(
        case=CaseId(f"{site}_{split}_{number}"),
        subject=SubjectId(f"{site}_{split}_{number // 2}"),
        site=site,
        root=Path(),
        fold=None,
        split=split,
        images=(Path("image.nii.gz"),),
        label=Path("label.nii.gz"),
    )


def labelled_subjects(
    cases: dict[SiteId, tuple[CaseEntry, ...]], config: FewLabels | None
) -> dict[str, set[str]]:
    """Per site the subjects whose labels are kept."""
    splits = assign_splits(cases, config=ColumnSplit(kind="column"))
    few = with_few_labels(cases, splits=splits, config=config)
    assert {site: [one.case for one in kept] for site, kept in few.items()} == {
        site: [one.case for one in held] for site, held in cases.items()
    }
    return {site: {one.subject for one in kept if one.label} for site, kept in few.items()}


TRAIN = tuple(entry(n) for n in range(20))


def test_all_labels_where_nothing_is_said() -> None:
    assert len(labelled_subjects({SITE: TRAIN}, None)[SITE]) == 10


@pytest.mark.parametrize("number", [0, 1, 3, 10, 11])
def test_as_many_subjects_as_asked_for_with_all_their_cases(number: int) -> None:
    splits = assign_splits({SITE: TRAIN}, config=ColumnSplit(kind="column"))
    few = with_few_labels({SITE: TRAIN}, splits=splits, config=FewLabels(subjects=number))
    kept = [one for one in few[SITE] if one.label]
    assert len({one.subject for one in kept}) == min(number, 10)
    assert len(kept) == 2 * min(number, 10)


def test_fewer_are_among_more_and_another_seed_draws_others() -> None:
    def drawn(number: int, seed: int) -> set[str]:
        return labelled_subjects({SITE: TRAIN}, FewLabels(subjects=number, seed=seed))[SITE]

    assert drawn(2, 0) < drawn(5, 0) < drawn(9, 0)
    assert len({frozenset(drawn(3, seed)) for seed in range(5)}) > 1


def test_validation_and_test_keep_their_labels() -> None:
    held = (entry(0, split="validation"), entry(0, split="test"))
    kept = labelled_subjects({SITE: (*TRAIN, *held)}, FewLabels(subjects=0))
    assert kept[SITE] == {one.subject for one in held}


def test_sites_apart() -> None:
    other = SiteId("site_b")
    cases = {SITE: TRAIN, other: tuple(entry(n, site=other) for n in range(20))}
    kept = labelled_subjects(cases, FewLabels(subjects={"site_a": 2}))
    assert [len(subjects) for subjects in kept.values()] == [2, 0]
    alone = labelled_subjects({SITE: TRAIN}, FewLabels(subjects=2))
    assert labelled_subjects(cases, FewLabels(subjects=2))[SITE] == alone[SITE]


def test_a_subject_without_labels_takes_no_place() -> None:
    bare = tuple(replace(entry(n), label=None) for n in range(18))
    kept = labelled_subjects({SITE: (*bare, entry(18), entry(19))}, FewLabels(subjects=1))
    assert kept[SITE] == {entry(18).subject}


def test_a_number_for_a_site_that_is_not_there_is_told() -> None:
    sites = [SITE, SiteId("site_b")]
    for config in (None, FewLabels(subjects=1), FewLabels(subjects={"site_b": 2})):
        require_known_sites(config, sites=sites)
    with pytest.raises(SplitError, match=r"site_x is no site here.*site_a, site_b"):
        require_known_sites(FewLabels(subjects={"site_a": 1, "site_x": 2}), sites=sites)
