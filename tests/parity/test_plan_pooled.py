"""A plan from the sites' merged fingerprints is the plan from all their cases at one site."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from case_facts import CHANNELS, CLASSES, OPEN_STUDY, cases
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.client import check_sites
from fedvol.config import OpenStudy, load_open_study
from fedvol.config.loading import parse_open_study
from fedvol.errors import FedvolError
from fedvol.plan import CaseFacts, Fingerprint, class_names, merge_fingerprints, plan_study
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


def require_parity(study: OpenStudy, *, data: Path, folder: Path) -> tuple[str, str]:
    """Check the volumes of several sites, plan from both, and compare."""
    sites = facts_of(study, data=data, folder=folder)
    assert len(sites) > 1
    names = {"channels": study.data.channels, "classes": class_names(study.data)}
    merged = merge_fingerprints([count(facts, **names) for facts in sites.values()])
    pooled = count([one for facts in sites.values() for one in facts], **names)
    assert merged.model_dump_json() == pooled.model_dump_json()
    told = plan_or_refusal(study, merged)
    assert told[0] != "refused", told
    assert told == plan_or_refusal(study, pooled)
    return told


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
    require_parity(study, data=tiny_data, folder=tmp_path)


def test_hippocampus(fedvol_data: Path, tmp_path: Path) -> None:
    """And it is nnU-Net's patch and voxel size for these data (Isensee et al. 2021)."""
    data = fedvol_data / "msd_hippocampus"
    if not data.is_dir():
        pytest.skip(f"{data} is absent")
    study = load_open_study(REPOSITORY / "examples" / "hippocampus_planned.toml")
    closed, _ = require_parity(study, data=data, folder=tmp_path)
    assert '"spacing_mm":[1.0,1.0,1.0]' in closed
    assert '"size":[40,56,40]' in closed
