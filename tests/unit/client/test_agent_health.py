"""What a site tells of how many cases it has, where labels or scans are few."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from pretraining import pretrained_study
from tiny import CPU, Events

from fedvol.audit import AuditLog
from fedvol.client.agent import SiteAgent
from fedvol.client.cases import SiteCases
from fedvol.client.plan_network import PlanNetwork
from fedvol.config import SitePolicy
from fedvol.errors import CohortTooSmallError
from fedvol.federation import Action, Request
from fedvol.plan import Plan
from fedvol.privacy import Contribution
from fedvol.simulation.federate import make_plan
from fedvol.types import RunId, SiteId

SITE = SiteId("hospital_1")
"""It has three patients to train on."""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(pretrained_study(), sites=(SITE,))[0]


def health(plan: Plan, cases: SiteCases, *, floor: int, folder: Path) -> Contribution:
    agent = SiteAgent(
        site=SITE,
        plan=plan,
        cases=cases,
        folder=folder,
        policy=SitePolicy(min_group=floor, min_cohort=1),
        audit=AuditLog(folder / "audit.jsonl"),
        resampling_key=plan.digest,
        observer=Events(),
        network=PlanNetwork(plan, device=CPU),
    )
    request = Request(
        run=RunId("r"),
        plan=plan.digest,
        stage=0,
        round=0,
        site=SITE,
        action=Action.HEALTH,
        state={},
        arguments={},
        limit_s=1.0,
    )
    return agent.handle(request)


@pytest.mark.parametrize(
    ("labelled", "floor", "told"),
    [
        (3, 3, (3, 3)),
        (0, 3, (0, 3)),
        (2, 1, (2, 3)),
        (2, 2, (2, 2)),  # one subject without a label is left aside
        (1, 2, (0, 3)),  # and of one with a label nothing is told
    ],
)
def test_no_count_is_of_fewer_subjects_than_the_floor(
    tiny_cases: Mapping[SiteId, SiteCases],
    plan: Plan,
    tmp_path: Path,
    labelled: int,
    floor: int,
    told: tuple[int, int],
) -> None:
    train = tiny_cases[SITE].train
    cases = replace(tiny_cases[SITE], train=train[:labelled], unlabelled=train[labelled:])
    sent = health(plan, cases, floor=floor, folder=tmp_path)
    assert not sent.code
    assert (sent.values["training_cases"], sent.values["pretraining_cases"]) == told


def test_cases_left_aside_do_not_lift_a_site_above_its_floor(
    tiny_cases: Mapping[SiteId, SiteCases], plan: Plan, tmp_path: Path
) -> None:
    """Two with a label, and one without, who is left aside: fewer than three."""
    train = tiny_cases[SITE].train
    cases = replace(tiny_cases[SITE], train=train[:2], unlabelled=train[2:])
    sent = health(plan, cases, floor=3, folder=tmp_path)
    assert sent.code == CohortTooSmallError.code
    assert "pretraining_cases" not in sent.values
