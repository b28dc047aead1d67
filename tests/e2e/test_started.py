"""A federation whose finetuning begins with a file of pretrained weights."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pretraining import pretrained_study, started_text
from tiny import CPU, RUN, Federation, make_federation

from fedvol.client.cases import SiteCases
from fedvol.client.plan_network import PlanNetwork
from fedvol.config import Study, close_study
from fedvol.config.loading import parse_open_study
from fedvol.errors import PlanMismatchError, TransferError
from fedvol.federation import Action, Request, plan_exchange
from fedvol.models import initial_network, to_arrays
from fedvol.plan import Plan, TensorKind, state_digest
from fedvol.simulation.federate import make_plan
from fedvol.store import CheckpointKind, PretrainedFile, RunStore, find_weights, open_engine
from fedvol.types import Digest, SiteId, State

Cases = Mapping[SiteId, SiteCases]
SITE = SiteId("hospital_1")


@pytest.fixture(scope="module")
def pretrained(tiny_cases: Cases, tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A run that pretrains and finetunes."""
    folder = tmp_path_factory.mktemp("pretrained")
    federation = make_federation(pretrained_study(), cases=tiny_cases, folder=folder)
    federation.run()
    return federation


def kept(federation: Federation, kind: CheckpointKind, *, stage: int) -> Digest:
    engine = open_engine(federation.folder / "run.db")
    try:
        held = RunStore(engine).checkpoints(RUN, kind=kind)
    finally:
        engine.dispose()
    return next(one.digest for one in held if one.stage == stage)


def started(
    pretrained: Federation, *, start: str = "", terms: str = "", strategy: str = ""
) -> tuple[Study, PretrainedFile]:
    file = pretrained.blobs.path(kept(pretrained, CheckpointKind.PRETRAINED, stage=0))
    text = started_text(file, start=start, terms=terms, strategy=strategy)
    study, weights = find_weights(parse_open_study(text, where="tiny.toml"), folder=Path("/"))
    assert weights is not None
    return close_study(study, {}, where="tiny.toml"), weights


def planned(pretrained: Federation, **keys: str) -> tuple[Plan, State]:
    study, weights = started(pretrained, **keys)
    return make_plan(study, sites=tuple(pretrained.cases), weights=weights)


def play(plan: Plan, initial: State, *, like: Federation, folder: Path) -> tuple[State, State]:
    """What finetuning began with, and the release."""
    federation = Federation(plan=plan, initial=initial, cases=like.cases, folder=folder)
    outcome, _ = federation.run()
    base = kept(federation, CheckpointKind.INITIAL, stage=0)
    return federation.state(base), federation.state(outcome.release)


def test_it_begins_bit_for_bit_as_the_run_that_pretrained_went_on(pretrained: Federation) -> None:
    plan, initial = planned(pretrained)
    went_on = pretrained.state(kept(pretrained, CheckpointKind.INITIAL, stage=1))
    assert state_digest(initial) == state_digest(went_on) == plan.network.initial_digest
    fresh = to_arrays(initial_network(plan.study))
    heads = {s.name for s in plan.network.tensors if s.kind is TensorKind.HEAD}
    assert {name for name in fresh if np.array_equal(fresh[name], initial[name])} == heads
    assert plan.start is not None
    assert set(plan.start.report.loaded) == set(fresh) - heads
    assert plan.start.report.shares == {"encoder": 1, "decoder": 1}


def test_a_linear_probe_moves_the_heads_alone(pretrained: Federation, tmp_path: Path) -> None:
    plan, initial = planned(pretrained, start='frozen = "all_but_heads"')
    began, released = play(plan, initial, like=pretrained, folder=tmp_path)
    assert state_digest(began) == plan.network.initial_digest
    moved = {name for name in began if not np.array_equal(began[name], released[name])}
    assert moved == {name for name in began if name.startswith("heads.")}


def test_what_stays_at_the_sites_begins_anew(pretrained: Federation, tmp_path: Path) -> None:
    """Sites hold no file: what does not travel to them cannot be taken over."""
    plan, initial = planned(pretrained, strategy='kind = "fedbn"')
    norms = {s.name for s in plan.network.tensors if s.kind is TensorKind.NORM}
    assert plan.start is not None
    assert norms <= set(plan.start.report.left_out)
    network, fresh = PlanNetwork(plan, device=CPU), to_arrays(initial_network(plan.study))
    assert norms == set(network.initial_local[0])
    for name in norms:
        np.testing.assert_array_equal(initial[name], fresh[name])
        np.testing.assert_array_equal(network.initial_local[0][name], fresh[name])
    _, released = play(plan, initial, like=pretrained, folder=tmp_path)
    assert set(released) == set(initial)


def test_the_plan_knows_the_content_of_the_file_and_not_its_place(
    pretrained: Federation, tmp_path: Path
) -> None:
    plan, _ = planned(pretrained)
    study, weights = started(pretrained)
    elsewhere = tmp_path / "weights.safetensors"
    elsewhere.write_bytes(weights.path.read_bytes())
    text = started_text("weights.safetensors")
    moved, found = find_weights(parse_open_study(text, where="x"), folder=tmp_path)
    assert found is not None
    assert close_study(moved, {}, where="x") == study
    assert str(weights.path) not in plan.model_dump_json()
    assert Plan.model_validate_json(plan.model_dump_json()).digest == plan.digest


def test_every_reason_is_told_at_once(pretrained: Federation) -> None:
    study, weights = started(pretrained)
    changed = {
        "data": study.data.model_copy(update={"channels": ("MR",)}),
        "network": study.network.model_copy(update={"features": (4, 6)}),
        "preprocessing": study.preprocessing.model_copy(
            update={"normalisation": pretrained_normalisation(study)}
        ),
    }
    alone = weights.record.model_copy(update={"transfers": "encoder"})
    file = PretrainedFile(path=weights.path, digest=weights.digest, record=alone)
    with pytest.raises(TransferError) as caught:
        make_plan(study.model_copy(update=changed), sites=(SiteId("a"),), weights=file)
    assert [one.where for one in caught.value.problems] == [
        "architecture", "transfers", "normalisation", "channels", "encoder", "decoder",
    ]  # fmt: skip


def pretrained_normalisation(study: Study) -> object:
    """Another than the study's."""
    return study.preprocessing.normalisation.model_copy(update={"window_hu": (-10.0, 10.0)})


@pytest.mark.parametrize("change", ["nothing", "moved", "lost", "terms"])
def test_a_site_refuses_an_account_that_cannot_be(pretrained: Federation, change: str) -> None:
    plan, _ = planned(pretrained)
    assert plan.start is not None
    report, record = plan.start.report, plan.start.record
    name, *_ = report.loaded
    fewer = {one: size for one, size in report.loaded.items() if one != name}
    start = {
        "nothing": None,
        "moved": {"report": report.model_copy(update={"loaded": fewer})},
        "lost": {"report": report.model_copy(update={"shares": {"encoder": 0.99, "decoder": 1.0}})},
        "terms": {"record": record.model_copy(update={"channels": ("MR",)})},
    }[change]
    told = start and plan.start.model_copy(update=start)
    PlanNetwork(plan, device=CPU)
    with pytest.raises(TransferError if change == "terms" else PlanMismatchError):
        PlanNetwork(plan.model_copy(update={"start": told}), device=CPU)


@pytest.mark.parametrize("strategy", ["", 'kind = "fedbn"'])
def test_a_site_begins_with_the_weights_of_the_plan_alone(
    strategy: str, pretrained: Federation, tmp_path: Path
) -> None:
    plan, initial = planned(pretrained, strategy=strategy)
    federation = Federation(plan=plan, initial=initial, cases=pretrained.cases, folder=tmp_path)
    agent = federation.agents()[SITE]
    exchange = plan_exchange(plan, 0)

    def code_of(state: State, *, index: int) -> str:
        sent = {spec.name: state[spec.name] for spec in exchange.shared}
        request = Request(
            run=RUN, plan=plan.digest, stage=0, round=index, site=SITE, action=Action.FINETUNE,
            state=sent, arguments={}, limit_s=600.0,
        )  # fmt: skip
        return agent.handle(request).code

    assert code_of(initial, index=1) == ""
    name = exchange.shared[0].name
    other = {**initial, name: initial[name] + np.float32(1e-3)}
    assert code_of(other, index=1) == PlanMismatchError.code
    fresh = to_arrays(initial_network(plan.study))  # as if there were no file
    assert code_of(fresh, index=1) == PlanMismatchError.code
    [detail] = {
        str(one["detail"]) for one in federation.observer.named("site.refused") if one.get("detail")
    }
    assert plan.start is not None
    assert f"the pretrained file {plan.start.digest[:12]}" in detail
    assert code_of(other, index=2) == ""


def test_control_variates_travel_beside_the_weights_of_the_file(
    pretrained: Federation, tmp_path: Path
) -> None:
    plan, initial = planned(pretrained, strategy='kind = "scaffold"')
    began, released = play(plan, initial, like=pretrained, folder=tmp_path)
    assert state_digest(began) == plan.network.initial_digest
    assert not all(np.array_equal(began[name], released[name]) for name in began)
