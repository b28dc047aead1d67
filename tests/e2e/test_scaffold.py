"""SCAFFOLD with real sites: what travels, what is recorded of it, and what stays."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import RUN, Federation, LastState, make_federation, tiny_study

from fedvol.federation import Action, Request, SiteState
from fedvol.transport import Fault
from fedvol.types import SiteId, State

SCAFFOLD = 'kind = "scaffold"'


def controls(federation: Federation, site: str) -> dict[int, State]:
    folder = federation.site(site) / "state" / RUN / "stage-0"
    return {int(path.stem[-6:]): load_file(path) for path in folder.glob("control-*")}


def play(cases, folder: Path, *, faults=None, rounds: int = 2) -> tuple[Federation, State]:
    study = tiny_study(strategy=SCAFFOLD, rounds=f"rounds = {rounds}")
    federation = make_federation(study, cases=cases, folder=folder)
    last = LastState(federation)
    federation.run(faults=faults)
    mark = "control|"
    return federation, {n.removeprefix(mark): t for n, t in last.state.items() if mark in n}


@pytest.fixture(scope="module")
def played(tiny_cases, tmp_path_factory: pytest.TempPathFactory) -> tuple[Federation, State]:
    return play(tiny_cases, tmp_path_factory.mktemp("scaffold"))


def test_c_is_the_mean_of_the_sites_own(played) -> None:
    federation, control = played
    cases = {site: len(one.train) for site, one in federation.cases.items()}
    assert set(control) == set(federation.initial)
    for name, array in control.items():
        mean = sum(
            num * controls(federation, site)[2][name].astype(np.float64)
            for site, num in cases.items()
        ) / sum(cases.values())
        np.testing.assert_allclose(array, mean, rtol=0, atol=1e-6)
    assert max(np.abs(array).max() for array in control.values()) > 1e-3


def test_it_is_audited_and_counted(played) -> None:
    federation, _ = played
    for site in federation.plan.sites:
        lines = (federation.site(site) / "audit.jsonl").read_text().splitlines()
        left = [json.loads(line)["event"] for line in lines]
        updates = [one for one in left if one["kind"] == "update"]
        assert {one["form"] for one in updates} == {"plain float32 with control"}
        assert {one["num_tensors"] for one in updates} == {2 * len(federation.initial)}
    size = sum(array.nbytes for array in federation.initial.values())
    for record in federation.rounds():
        for one in record.sites:
            assert one.bytes_up is not None
            assert one.bytes_down is not None
            assert 2 * size < min(one.bytes_up, one.bytes_down) < 2.5 * size


def test_a_lost_contribution_is_not_counted(tiny_cases, tmp_path: Path) -> None:
    """The site worked and kept a variate of round 2; the server never saw it."""

    def lost(request: Request) -> Fault | None:
        hit = request.action is Action.FINETUNE and request.round == 2
        return Fault.LOST if hit and request.site == "hospital_1" else None

    federation, control = play(tiny_cases, tmp_path, faults=lost, rounds=3)
    states = [{one.site: one.state for one in r.sites} for r in federation.rounds()]
    assert states[1][SiteId("hospital_1")] is SiteState.SILENT
    cases = {site: len(one.train) for site, one in federation.cases.items()}
    assert set(controls(federation, "hospital_1")) == {1, 3}  # round 2's went when 3 was kept
    for name, array in control.items():
        mean = sum(
            num * controls(federation, site)[3][name].astype(np.float64)
            for site, num in cases.items()
        ) / sum(cases.values())
        np.testing.assert_allclose(array, mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"arguments": {}}, "does not say which round"),
        ({"arguments": {"control_round": 1}}, "not over"),
        ({"arguments": {"control_round": 0, "mu": "much"}}, "do not follow the schema"),
        ({"state": {}}, "other tensors than the plan"),
    ],
)
def test_a_site_refuses_a_request_that_the_plan_does_not_name(
    change, named: str, tiny_cases, tmp_path: Path
) -> None:
    study = tiny_study(strategy=SCAFFOLD, rounds="rounds = 1")
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    agent = federation.agents()[SiteId("hospital_1")]
    zeros = {f"control|{name}": np.zeros_like(array) for name, array in federation.initial.items()}
    fields = {
        "run": RUN,
        "plan": federation.plan.digest,
        "stage": 0,
        "round": 1,
        "site": SiteId("hospital_1"),
        "action": Action.FINETUNE,
        "state": {**federation.initial, **zeros},
        "arguments": {"control_round": 0},
        "limit_s": 60.0,
    }
    refused = agent.handle(Request(**{**fields, **change}))
    assert refused.code == "FV-FED-003"
    (event,) = federation.observer.named("site.refused")
    assert named in str(event["detail"])
