"""A plan from the sites' merged fingerprints is the plan from all their cases at one site."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import pytest
from case_facts import CHANNELS, CLASSES, OPEN_STUDY, cases
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.client.prepare import check_sites
from fedvol.config import OpenStudy, Study, load_open_study
from fedvol.config.loading import parse_open_study
from fedvol.errors import FedvolError
from fedvol.plan import (
    CaseFacts,
    Fingerprint,
    PlanningRecord,
    class_names,
    merge_fingerprints,
    plan_study,
)
from fedvol.privacy.fingerprints import fingerprint
from fedvol.types import SiteId

REPOSITORY = Path(__file__).resolve().parents[2]


def count(
    facts: Sequence[CaseFacts],
    *,
    channels: Sequence[str] = CHANNELS,
    classes: Sequence[str] = CLASSES,
) -> Fingerprint:
    return fingerprint(facts, channels=channels, classes=classes, floor=1)


def plan_or_refusal(study: OpenStudy, found: Fingerprint) -> tuple[str, str]:
    """The whole plan with its reasons; or, where there is none, the error."""
    try:
        closed, record = plan_study(study, found)
    except FedvolError as error:
        return "refused", str(error)
    return closed.model_dump_json(), record.model_dump_json()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_however_cases_are_split_over_sites(data: st.DataObject) -> None:
    everything = data.draw(cases(min_subjects=1, max_subjects=12))
    num_sites = data.draw(st.integers(1, 5))
    site_of = {
        subject: data.draw(st.integers(0, num_sites - 1))
        for subject in sorted({case.subject for case in everything})
    }
    sites = [
        count([case for case in everything if site_of[case.subject] == number])
        for number in data.draw(st.permutations(range(num_sites)))
    ]
    pooled, merged = count(everything), merge_fingerprints(sites)
    assert merged == pooled
    assert merged.digest == pooled.digest
    study = parse_open_study(OPEN_STUDY, where="parity.toml")
    assert plan_or_refusal(study, merged) == plan_or_refusal(study, pooled)


def require_parity(
    study: OpenStudy, sites: Mapping[SiteId, list[CaseFacts]]
) -> tuple[Study, PlanningRecord]:
    """Plan from the sites' fingerprints, and from that of all their cases; compare."""
    assert len(sites) > 1
    merged = merged_at(study, sites, floor=1)
    names = {"channels": study.data.channels, "classes": class_names(study.data)}
    pooled = count([one for facts in sites.values() for one in facts], **names)
    assert merged.model_dump_json() == pooled.model_dump_json()
    planned = plan_study(study, merged)
    assert planned == plan_study(study, pooled)
    return planned


def merged_at(
    study: OpenStudy, sites: Mapping[SiteId, list[CaseFacts]], *, floor: int
) -> Fingerprint:
    """What sites with enough subjects tell together."""
    return merge_fingerprints(
        [
            fingerprint(
                facts,
                channels=study.data.channels,
                classes=class_names(study.data),
                floor=floor,
            )
            for facts in sites.values()
            if len({case.subject for case in facts}) >= floor
        ]
    )


def facts_of(study: OpenStudy, *, data: Path, folder: Path) -> Mapping[SiteId, list[CaseFacts]]:
    checked = check_sites(
        data,
        study=study,
        folder_of=lambda site: folder / site,
        workers=2,
        on_case=lambda record, done, total: None,
    )
    return {
        site: [
            record.facts
            for record in records
            if record.split == "train" and record.facts is not None
        ]
        for site, records in checked.items()
    }


def test_phantoms(tiny_data: Path, tmp_path: Path) -> None:
    text = OPEN_STUDY.replace("liver = 1, lesion = 2", "liver = 1, kidney = 2, lesion = 3")
    text = text.replace('kind = "hash"', 'kind = "fold", test = 0, validation = 1')
    study = parse_open_study(text, where="phantoms.toml")
    require_parity(study, facts_of(study, data=tiny_data, folder=tmp_path))


def test_hippocampus(fedvol_data: Path, tmp_path: Path) -> None:
    """And it is nnU-Net's patch and voxel size for these data (Isensee et al. 2021)."""
    study = load_open_study(REPOSITORY / "examples" / "hippocampus_planned.toml")
    data = present(fedvol_data / "msd_hippocampus")
    sites = facts_of(study, data=data, folder=tmp_path)
    closed, record = require_parity(study, sites)
    assert closed.preprocessing.spacing_mm == (1.0, 1.0, 1.0)
    assert closed.patches.size == (40, 56, 40)
    require_on_page(record)
    # Hospitals that withhold: the table on the same page.
    for floor, patch, batch_size in (
        (5, (40, 56, 40), 4),
        (10, (40, 48, 40), 5),
        (20, (40, 56, 40), 3),
    ):
        careful, _ = plan_study(study, merged_at(study, sites, floor=floor))
        assert careful.preprocessing == closed.preprocessing
        assert careful.network == closed.network
        assert (careful.patches.size, careful.patches.batch_size) == (patch, batch_size)


def test_spleen_sample(fedvol_data: Path, tmp_path: Path) -> None:
    """One CT; without a slice it is another image, so that there is a case to judge by."""
    sample = present(fedvol_data / "msd_spleen_sample")
    data = tmp_path / "data"
    slices = {"train": slice(None), "validation": slice(0, -1), "test": slice(1, None)}
    for folder, kind in (("images", "image"), ("labels", "label")):
        volume = nibabel.load(sample / f"spleen_2_{kind}.nii.gz")
        (data / folder).mkdir(parents=True)
        for split, kept in slices.items():
            nibabel.save(volume.slicer[:, :, kept], data / folder / f"{split}.nii.gz")
    rows = "".join(f"{split},{split},msk,{split}\n" for split in slices)
    (data / "cases.csv").write_text(f"case,subject,site,split\n{rows}")
    text = OPEN_STUDY.replace("liver = 1, lesion = 2", "spleen = 1")
    study = parse_open_study(text.replace('kind = "hash"', 'kind = "column"'), where="spleen.toml")
    (facts,) = facts_of(study, data=data, folder=tmp_path).values()
    _, record = plan_study(study, count(facts, classes=("spleen",)))
    require_on_page(record)


def present(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


def require_on_page(record: PlanningRecord) -> None:
    """Every value and reason is what `docs/planning.md` shows."""
    page = " ".join((REPOSITORY / "docs" / "planning.md").read_text().split())
    for choice in record.choices:
        assert f"{choice.key} planned {json.dumps(choice.value)} {choice.reason}" in page
