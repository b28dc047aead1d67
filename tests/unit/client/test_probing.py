"""A linear probe at a site: which weights it stands on, and what it leaves as it was."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pretraining import FUSION, pretrained_study
from tiny import CPU, Events
from torch import nn

from fedvol.audit import AuditLog
from fedvol.client import pretrain_answers, probing
from fedvol.client.agent import SiteAgent
from fedvol.client.cases import SiteCases
from fedvol.client.plan_network import PlanNetwork
from fedvol.client.probing import probe
from fedvol.config import SitePolicy, Study
from fedvol.errors import FedvolError, TimeLimitError, TrainingDivergedError
from fedvol.federation import Action, MetricSums, Request
from fedvol.federation.metric_arrays import from_arrays
from fedvol.models import to_arrays
from fedvol.models.state import parts_of
from fedvol.plan import TensorKind, pretext_metrics, pretext_part
from fedvol.simulation.federate import make_plan
from fedvol.ssl import initial_pretext_network
from fedvol.types import RunId, SiteId
from fedvol.validation import CaseMetrics

SITE = SiteId("hospital_1")
TASKS = [FUSION, 'kind = "mae"\nblock = 4', 'kind = "s3d"\nblock = 4']
MAE = TASKS[1]


def study_of(task: str, *, steps: int = 2, start: str = "") -> Study:
    keys = f"probe = {{ every = 1, steps = {steps} }}"
    return pretrained_study(task=task, keys=keys, start=start)


def network(study: Study) -> nn.Module:
    assert study.pretrain is not None
    return initial_pretext_network(study, study.pretrain)


def probed(
    net: nn.Module, *, study: Study, cases: SiteCases, is_late: bool = False
) -> dict[str, CaseMetrics]:
    plan, _ = make_plan(study, sites=(SITE,))
    found = probe(
        net,
        train_on=cases.train,
        judge_on=cases.validation,
        site=SITE,
        plan=plan,
        stage=0,
        device=CPU,
        should_stop=lambda: is_late,
    )
    return {str(case): row for case, row in found.items()}


@pytest.mark.parametrize("task", TASKS)
def test_heads_alone_learn_on_the_whole_body_and_the_pretext_network_stays(
    task: str, tiny_cases: Mapping[SiteId, SiteCases], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of it finetuning will take over: here the encoder alone."""
    study = study_of(task, start='parts = "encoder"')
    pretext = network(study)
    with torch.no_grad():
        for tensor in pretext.parameters():
            tensor.add_(0.01)
    before = to_arrays(pretext)
    nets: list[nn.Module] = []
    single = probing.single
    monkeypatch.setattr(
        probing, "single", lambda net, **more: nets.append(net) or single(net, **more)
    )
    cases = tiny_cases[SITE]
    rows = probed(pretext, study=study, cases=cases)
    assert set(rows) == {case.stored.case for case in cases.validation}
    after, learned = to_arrays(pretext), to_arrays(nets[0])
    assert all(np.array_equal(after[name], before[name]) for name in before)
    initial = to_arrays(probing.initial_network(study))
    for name, part in parts_of(nets[0]).items():
        if part is TensorKind.HEAD:
            assert not np.array_equal(learned[name], initial[name]), name
        else:
            np.testing.assert_array_equal(learned[name], before[name], err_msg=name)
            assert part is TensorKind.BUFFER or not np.array_equal(learned[name], initial[name])
    assert all(weight.requires_grad for weight in nets[0].parameters())


def test_the_same_probe_is_the_same_and_its_figure_follows_heads_and_features(
    tiny_cases: Mapping[SiteId, SiteCases],
) -> None:
    cases = tiny_cases[SITE]

    def dice(*, steps: int, shift: float = 0.0) -> list[float | None]:
        study = study_of(MAE, steps=steps)
        net = network(study)
        with torch.no_grad():
            next(net.parameters()).add_(shift)
        found = probed(net, study=study, cases=cases)
        return [row.values["dice"] for row in found.values()]

    once = dice(steps=5)
    assert None not in once
    assert dice(steps=5) == once
    assert dice(steps=1) != once
    assert dice(steps=5, shift=0.5) != once


def test_a_probe_that_is_late_is_left(tiny_cases: Mapping[SiteId, SiteCases]) -> None:
    study = study_of(MAE)
    with pytest.raises(TimeLimitError):
        probed(network(study), study=study, cases=tiny_cases[SITE], is_late=True)


@pytest.mark.parametrize(("floor", "num_told"), [(1, 1), (2, 0)])
def test_labels_of_fewer_subjects_than_the_floor_are_not_probed(
    tiny_cases: Mapping[SiteId, SiteCases], tmp_path: Path, floor: int, num_told: int
) -> None:
    all_cases = tiny_cases[SITE]
    first, *others = all_cases.train
    cases = replace(all_cases, train=(first,), unlabelled=tuple(others))
    sums, _ = judged_by_agent(cases, floor=floor, folder=tmp_path)
    told = sums.stat("probe_dice")
    assert (told.n, told.undefined) == (num_told, len(all_cases.validation) - num_told)
    assert sums.stat("pretext_loss").n == len(all_cases.validation)


@pytest.mark.parametrize("error", [TimeLimitError, TrainingDivergedError])
def test_a_probe_that_fails_spoils_no_other_figure(
    error: type[FedvolError],
    tiny_cases: Mapping[SiteId, SiteCases],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would choose the round: one that fewer cases judge is passed over."""

    def fail(*_: object, **__: object) -> None:
        raise error("probe", "it went wrong", "Nothing.")

    monkeypatch.setattr(pretrain_answers, "probe", fail)
    sums, events = judged_by_agent(tiny_cases[SITE], floor=1, folder=tmp_path)
    assert sums.stat("probe_dice").n == 0
    assert sums.stat("pretext_loss").n == len(tiny_cases[SITE].validation)
    assert [one["code"] for one in events.named("site.probe_left")] == [error.code]


def judged_by_agent(cases: SiteCases, *, floor: int, folder: Path) -> tuple[MetricSums, Events]:
    """What a site says of the initial network, and what it told of there."""
    study, events = study_of(MAE), Events()
    plan, initial = make_plan(study, sites=(SITE,))
    agent = SiteAgent(
        site=SITE,
        plan=plan,
        cases=cases,
        folder=folder,
        policy=SitePolicy(min_group=1, min_cohort=floor),
        audit=AuditLog(folder / "audit.jsonl"),
        resampling_key=plan.digest,
        observer=events,
        network=PlanNetwork(plan, device=CPU),
    )
    sent = agent.handle(
        Request(
            run=RunId("r"),
            plan=plan.digest,
            stage=0,
            round=1,
            site=SITE,
            action=Action.VALIDATE,
            state=pretext_part(initial),
            arguments={},
            limit_s=600.0,
        )
    )
    assert not sent.code, sent.title
    assert study.pretrain is not None
    keys = pretext_metrics(study.pretrain, is_probed=True)
    return from_arrays(sent.tensors, keys=keys), events
