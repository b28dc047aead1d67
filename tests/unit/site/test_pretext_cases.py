"""Whether a hospital's cases do for a study's pretraining, from what their checks found."""

import pytest
from pretraining import pretrained_study, pretrained_text

from fedvol.config import OpenStudy, SitePolicy, Study
from fedvol.config.loading import parse_open_study
from fedvol.data import CaseRecord
from fedvol.errors import NoCasesError
from fedvol.site.preparing import Findings, is_enough, require_floor
from fedvol.site.pretext_cases import PretextCases
from fedvol.types import CaseId, Digest, SiteId, SubjectId, Triple

FUSION, WHOLE = pretrained_study(), pretrained_study(task='kind = "rotation"')
"""Patches of 16 voxels of 4 mm a side."""


def record(
    name: str, *, is_labelled: bool = False, shape: Triple = (16, 16, 16), split: str = "train"
) -> CaseRecord:
    return CaseRecord(
        site=SiteId("a"),
        case=CaseId(name),
        subject=SubjectId(f"{name}-subject"),
        split=split,  # type: ignore[arg-type]
        images=("image.nii.gz",),
        label="label.nii.gz" if is_labelled else None,
        shape=shape,
        spacing_mm=(4.0, 4.0, 4.0),
        affine=None,
        checksum=Digest(name),
        label_checksum=Digest(""),
        content=Digest(name),
        voxels=None,
        intensities=None,
        verdict="",
        reason="",
    )


def found(study: Study | OpenStudy, *records: CaseRecord, floor: int = 1) -> PretextCases:
    pretext = PretextCases.of(records, study=study, floor=floor)
    assert pretext is not None
    return pretext


def test_a_task_that_blends_two_cases_needs_two() -> None:
    one, other = record("c1"), record("c2")
    assert found(FUSION, one).lacks == (
        "volume_fusion needs two cases to train on, and there is one"
    )
    assert not found(FUSION, one, other).lacks
    assert found(FUSION, one, record("c3", split="validation")).lacks
    assert not found(WHOLE, one).lacks


def test_volumes_in_which_no_whole_patch_lies_are_left_out() -> None:
    thin, whole = record("c1", shape=(16, 16, 15)), record("c2")
    mixed = found(WHOLE, thin, whole)
    assert (mixed.too_small, mixed.subjects, mixed.patch, mixed.lacks) == (1, 1, "16x16x16", "")
    alone = found(WHOLE, thin)
    assert (alone.too_small, alone.subjects) == (1, 0)
    assert alone.lacks == ("rotation needs a case as large as its patch, and none of them serves")
    assert found(FUSION, thin, whole).too_small == 0


def test_sides_count_at_the_voxel_size_of_the_study() -> None:
    finer = pretrained_text(task='kind = "rotation"').replace("[4.0, 4.0, 4.0]", "[3.0, 3.0, 3.0]")
    study = parse_open_study(finer, where="tiny.toml")
    assert found(study, record("c1", shape=(12, 12, 12))).too_small == 0
    assert found(study, record("c1", shape=(12, 12, 11))).too_small == 1


@pytest.mark.parametrize("key", ["size = [16, 16, 16]", "spacing_mm = [4.0, 4.0, 4.0]"])
def test_what_is_not_planned_yet_leaves_nothing_out(key: str) -> None:
    text = pretrained_text(task='kind = "rotation"').replace(key, "")
    pretext = found(parse_open_study(text, where="tiny.toml"), record("c1", shape=(4, 4, 4)))
    assert (pretext.too_small, pretext.patch, pretext.lacks) == (0, "", "")


def test_too_few_without_a_label_are_left_aside() -> None:
    records = [record("c1", is_labelled=True), record("c2"), record("c3")]
    assert found(FUSION, *records, floor=2).subjects == 3
    assert found(FUSION, *records, floor=3).subjects == 1


@pytest.mark.parametrize(
    ("records", "floor", "message"),
    [
        ([record("c1")], 1, "and there is one; 0 patients to train on; the site's floor is 1"),
        ([record("c1")], 2, r"cases: 0 patients to pretrain on; the site's floor is 2"),
        ([record("c1", is_labelled=True)], 1, ""),
        ([record("c1"), record("c2")], 1, ""),
    ],
)
def test_a_site_takes_part_that_has_enough_for_either_stage(
    records: list[CaseRecord], floor: int, message: str
) -> None:
    policy = SitePolicy(min_group=floor, min_cohort=floor)
    findings, pretext = Findings.of(tuple(records)), found(FUSION, *records, floor=floor)
    assert is_enough(findings, policy, pretext=pretext) == (not message)
    if message:
        with pytest.raises(NoCasesError, match=message):
            require_floor(findings, policy, pretext=pretext)
    else:
        require_floor(findings, policy, pretext=pretext)
