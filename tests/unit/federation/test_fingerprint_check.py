"""A fingerprint that cannot be is refused before it is added to others'."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from case_facts import CHANNELS, CLASSES, OPEN_STUDY, cases, make_case
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.config.loading import parse_open_study
from fedvol.errors import ContributionError
from fedvol.federation import Action, Reply, Request, check_fingerprint
from fedvol.plan import CaseFacts, Fingerprint
from fedvol.privacy.fingerprints import fingerprint
from fedvol.types import Digest, RunId, SiteId

STUDY = parse_open_study(OPEN_STUDY, where="study.toml")
REQUEST = Request(
    run=RunId("fingerprint"),
    plan=Digest("0" * 64),
    stage=0,
    round=0,
    site=SiteId("site_a"),
    action=Action.FINGERPRINT,
    state={},
    arguments={},
    limit_s=1.0,
)


def check(values: dict[str, Any], **changes: Any) -> Fingerprint:
    fields = {
        "run": REQUEST.run,
        "stage": 0,
        "round": 0,
        "site": REQUEST.site,
        "action": REQUEST.action,
        "code": "",
        "title": "",
        "tensors": {},
        "values": values,
        "bytes_up": 0,
        "bytes_down": 0,
    }
    return check_fingerprint(Reply(**{**fields, **changes}), request=REQUEST, study=STUDY)


def count(site: list[CaseFacts], *, floor: int = 1) -> Fingerprint:
    return fingerprint(site, channels=CHANNELS, classes=CLASSES, floor=floor)


@given(cases(min_subjects=4, max_subjects=12), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_whatever_a_site_releases_is_taken(site: list[CaseFacts], floor: int) -> None:
    released = count(site, floor=floor)
    assert check(released.model_dump(mode="json")) == released


def test_a_site_without_cases_is_taken() -> None:
    assert check(count([]).model_dump(mode="json")).cases == 0


def sound() -> dict[str, Any]:
    spacing_mm, shape = (1.0, 1.0, 2.0), (64, 64, 32)
    site = [
        make_case(f"S{n}", shape=shape, spacing_mm=spacing_mm, voxels=([40.0, 50.0], [60.0]))
        for n in range(3)
    ]
    return count(site).model_dump(mode="json")


def cell(*values: int) -> Callable[[dict[str, Any]], Any]:
    """Another only cell of the first axis' voxel edges."""
    return lambda v: v["spacing_mm"][0].update(cells=[[*values]])


CASES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another channel": (lambda v: v["channels"][0].update(name="T1"), "channels or classes"),
    "classes in another order": (lambda v: v["classes"].reverse(), "channels or classes"),
    "a key too many": (lambda v: v.update(names=["Anna"]), ""),
    "withheld what nobody asked for": (lambda v: v.update(withheld=["age"]), "nobody asked"),
    "more subjects than cases": (lambda v: v.update(subjects=4), "subjects"),
    "no subjects": (lambda v: v.update(subjects=0), "subjects"),
    "a case more": (lambda v: v.update(cases=4), "every case once"),
    "a case less on one axis": (cell(0, 10_000, 2), "every case once"),
    "a negative count": (cell(0, 10_000, -3), ""),
    "half a case": (lambda v: v["spacing_mm"][0].update(cells=[[0, 10_000, 1.5]]), ""),
    "a level that is none": (cell(64, 0, 3), ""),
    "a bin beyond the scale": (cell(0, 1 << 31, 3), "outside the scale"),
    "a coarse bin beyond the scale": (cell(40, 1, 3), "outside the scale"),
    "an intensity beyond the scale": (
        lambda v: v["channels"][0]["histogram"].update(cells=[[0, 1 << 39, 9]]),
        "outside the scale",
    ),
    "bins that overlap": (
        lambda v: v["spacing_mm"][0].update(cells=[[0, 10_000, 1], [4, 625, 2]]),
        "overlap",
    ),
    "bins out of order": (
        lambda v: v["spacing_mm"][0].update(cells=[[0, 10_001, 1], [0, 10_000, 2]]),
        "in order",
    ),
    "voxels that do not add up": (lambda v: v["classes"][0].update(voxels=7), "add up"),
    "more cases of a class than cases": (lambda v: v["classes"][0].update(cases=4), "cases of a"),
    "voxels of a class without a case": (lambda v: v["classes"][0].update(cases=0), "cases of a"),
    "a sum that no voxels have": (lambda v: v["channels"][0].update(sum=str(10**12)), "sums of a"),
    "a sum that is no number": (lambda v: v["channels"][0].update(sum="many"), ""),
    "a sum without end": (lambda v: v["channels"][0].update(sum="9" * 1000), ""),
}


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_is_refused(name: str) -> None:
    change, message = CASES[name]
    values = sound()
    check(values)
    change(values)
    with pytest.raises(ContributionError, match=message or None):
        check(values)


def test_arrays_beside_it_are_refused() -> None:
    with pytest.raises(ContributionError):
        check(sound(), tensors={"w": np.zeros(3, "f4")})
