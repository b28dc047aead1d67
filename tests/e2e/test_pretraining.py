"""A federation that pretrains on unlabelled cases, and finetunes from what came of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pretraining import pretrained_study, pretrained_text
from tiny import CPU, RUN, Events, Federation, LastState, make_federation, prepare

from fedvol.client.cases import SiteCases
from fedvol.client.local_state import LocalState
from fedvol.client.plan_network import PlanNetwork
from fedvol.client.pretext_judging import picture_case
from fedvol.client.pretraining import pretext_source
from fedvol.config.loading import parse_study
from fedvol.errors import NoCasesError, NoLabelsError, PlanMismatchError
from fedvol.federation import (
    Action,
    Request,
    RoundState,
    SiteState,
    TransferTerms,
    plan_exchange,
)
from fedvol.models import initial_network, load_arrays, to_arrays, transfer
from fedvol.plan import TensorKind, network_part
from fedvol.simulation.federate import make_plan
from fedvol.ssl import build_pretext, initial_pretext_network
from fedvol.store import (
    ALL_SITES,
    CheckpointKind,
    CheckpointRecord,
    RunStore,
    StateFile,
    open_engine,
    read_record,
)
from fedvol.training import Window, threads, train
from fedvol.transport import Fault
from fedvol.types import Json, SiteId, State

Cases = Mapping[SiteId, SiteCases]
SITE = SiteId("hospital_1")
ONE_IS_ENOUGH = "[federation]\nmin_sites = 1\n"


def bases(federation: Federation) -> dict[int, State]:
    """What each stage began with."""
    engine = open_engine(federation.folder / "run.db")
    try:
        held = RunStore(engine).checkpoints(RUN, kind=CheckpointKind.INITIAL)
    finally:
        engine.dispose()
    return {one.stage: federation.state(one.digest) for one in held}


def pretrained_checkpoint(federation: Federation) -> CheckpointRecord:
    """The weights that its pretraining ended with."""
    engine = open_engine(federation.folder / "run.db")
    try:
        (held,) = RunStore(engine).checkpoints(RUN, kind=CheckpointKind.PRETRAINED)
    finally:
        engine.dispose()
    return held


def test_a_pretraining_at_one_site_is_the_training_loop(tiny_cases: Cases, tmp_path: Path) -> None:
    study = parse_study(
        pretrained_text().replace("rounds = 2", "rounds = 1") + ONE_IS_ENOUGH, where="tiny.toml"
    )
    federation = make_federation(study, cases={SITE: tiny_cases[SITE]}, folder=tmp_path)
    federation.run()
    stage = study.pretrain
    assert stage is not None
    net = initial_pretext_network(study, stage)
    cases = tiny_cases[SITE].pretrain
    with threads(1):
        train(
            net,
            objective=build_pretext(stage.task),
            batches=pretext_source(federation.plan, 0, cases, site=SITE, device=CPU),
            config=stage.training,
            window=Window(first_step=0, num_steps=3, total_steps=3),
            device=CPU,
        )
    trained = to_arrays(net)
    started = bases(federation)[1]
    assert federation.plan.pretraining is not None
    taken = federation.plan.pretraining.taken
    kinds = {spec.name: spec.kind for spec in federation.plan.network.tensors}
    assert {one.target for one in taken} == {
        n for n, k in kinds.items() if k is not TensorKind.HEAD
    }
    for one in taken:
        np.testing.assert_allclose(
            started[one.target], trained[one.source], rtol=0, atol=1e-6, err_msg=one.target
        )


def test_finetuning_starts_from_the_best_round_and_heads_begin_anew(
    tiny_cases: Cases, tmp_path: Path
) -> None:
    federation = make_federation(pretrained_study(), cases=tiny_cases, folder=tmp_path)
    federation.run()
    rounds = federation.rounds()
    assert [(one.stage, one.index, one.state) for one in rounds] == [
        *((0, index, RoundState.CLOSED) for index in (1, 2)),
        *((1, index, RoundState.CLOSED) for index in (1, 2, 3)),
    ]
    losses = [one.metrics[ALL_SITES]["pretext_loss"].value for one in rounds[:2]]
    assert all(loss is not None and np.isfinite(loss) for loss in losses)
    started, initial = bases(federation)[1], network_part(federation.initial)
    heads = [s.name for s in federation.plan.network.tensors if s.kind is TensorKind.HEAD]
    assert heads
    for name, array in started.items():
        assert np.array_equal(array, initial[name]) == (name in heads), name


def test_a_site_with_unlabelled_cases_alone_pretrains_and_sits_the_finetuning_out(
    tiny_cases: Cases, tmp_path: Path
) -> None:
    bare = tiny_cases[SITE]
    bare = replace(bare, train=(), unlabelled=bare.train, validation=(), test=())
    federation = make_federation(
        pretrained_study(), cases={**tiny_cases, SITE: bare}, folder=tmp_path
    )
    federation.run()
    told = {(one.stage, site.site): site for one in federation.rounds() for site in one.sites}
    assert told[0, SITE].state is SiteState.CONTRIBUTED
    assert told[0, SITE].cases == len(bare.unlabelled)
    assert told[1, SITE].state is SiteState.NO_LABELS
    assert told[1, SITE].code == NoLabelsError.code


def test_a_site_with_one_case_cannot_blend_two_and_the_others_go_on(
    tiny_cases: Cases, tmp_path: Path
) -> None:
    lone = replace(tiny_cases[SITE], train=tiny_cases[SITE].train[:1], unlabelled=())
    study = parse_study(pretrained_text() + ONE_IS_ENOUGH, where="tiny.toml")
    federation = make_federation(study, cases={**tiny_cases, SITE: lone}, folder=tmp_path)
    federation.run()
    first = federation.rounds()[0]
    by_site = {site.site: site for site in first.sites}
    assert by_site[SITE].state is SiteState.REFUSED
    assert by_site[SITE].code == NoCasesError.code
    assert {"site": SITE, "task": "volume_fusion"} in federation.observer.named("site.no_pair")
    told = {str(one.get("detail")) for one in federation.observer.named("site.refused")}
    assert any("there is a single case, and volume_fusion blends two" in one for one in told)
    assert first.state is RoundState.CLOSED


@pytest.mark.parametrize("at", [(0, 2), (1, 1), (1, 2)])
def test_a_run_that_was_cut_off_goes_on_to_the_same_release(
    at: tuple[int, int], tiny_cases: Cases, tmp_path: Path
) -> None:
    class Cut(Events):
        def event(self, name: str, /, **fields: Json) -> None:
            super().event(name, **fields)
            if name == "round.opened" and (fields["stage"], fields["round"]) == at:
                raise KeyboardInterrupt

    study = pretrained_study()
    whole = make_federation(study, cases=tiny_cases, folder=tmp_path / "whole")
    undisturbed, _ = whole.run()
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path / "cut")
    federation.observer = Cut()
    with pytest.raises(KeyboardInterrupt):
        federation.run()
    federation.observer = Events()
    resumed, _ = federation.run()
    assert resumed.release == undisturbed.release
    assert bases(federation).keys() == {0, 1}


def test_what_does_not_travel_is_never_taken_over(tiny_cases: Cases, tmp_path: Path) -> None:
    study = pretrained_study(keys='exchange = "encoder"')
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    shared = {spec.name for spec in plan_exchange(federation.plan, 0).shared}
    assert shared
    assert all(name.startswith(("stem.", "encoder.")) for name in shared)
    assert any(".norm." in name for name in shared)
    federation.run()
    started, initial = bases(federation)[1], network_part(federation.initial)
    changed = {name for name, array in started.items() if not np.array_equal(array, initial[name])}
    assert changed == shared


def test_a_frozen_encoder_stands_still(tiny_cases: Cases, tmp_path: Path) -> None:
    study = pretrained_study(start='frozen = "encoder"')
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    outcome, _ = federation.run()
    started, released = bases(federation)[1], federation.state(outcome.release)
    for name, array in released.items():
        is_frozen = name.startswith(("stem.", "encoder."))
        assert np.array_equal(array, started[name]) == is_frozen, name


def test_heads_learn_first(tiny_cases: Cases, tmp_path: Path) -> None:
    study = pretrained_study(start="heads_first_rounds = 1")
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    seen: list[State] = []

    class Watching(LastState):
        def event(self, name: str, /, **fields: Json) -> None:
            super().event(name, **fields)
            if name == "round.closed" and fields["stage"] == 1:
                seen.append(self.state)

    Watching(federation)
    federation.run()
    started = bases(federation)[1]
    after_first, after_second = seen[0], seen[1]
    for name, array in started.items():
        assert np.array_equal(array, after_first[name]) != name.startswith("heads."), name
        assert not np.array_equal(after_first[name], after_second[name]), name


def test_a_site_that_misses_the_round_after_the_heads_goes_on(
    tiny_cases: Cases, tmp_path: Path
) -> None:
    """Its moments are of the heads alone, and the next round's are of everything."""
    federation = make_federation(
        pretrained_study(start="heads_first_rounds = 1"), cases=tiny_cases, folder=tmp_path
    )

    def away(request: Request) -> Fault | None:
        is_missed = (request.stage, request.round) == (1, 2) and request.site == SITE
        return Fault.SILENT if is_missed and request.action is Action.FINETUNE else None

    federation.run(faults=away)
    found = {
        (one.index, site.site): site.state
        for one in federation.rounds()
        if one.stage == 1
        for site in one.sites
    }
    assert found[2, SITE] is not SiteState.CONTRIBUTED
    assert found[3, SITE] is SiteState.CONTRIBUTED


@pytest.mark.parametrize("field", ["encoder", "heads", "taken"])
def test_a_site_refuses_a_plan_that_misnames_what_is_pretrained(field: str) -> None:
    plan, _ = make_plan(pretrained_study(), sites=(SITE,))
    assert plan.pretraining is not None
    shorter = plan.pretraining.model_copy(update={field: getattr(plan.pretraining, field)[1:]})
    PlanNetwork(plan, device=CPU)
    with pytest.raises(PlanMismatchError, match="calls other tensors the encoder"):
        PlanNetwork(plan.model_copy(update={"pretraining": shorter}), device=CPU)


@pytest.mark.parametrize(
    ("strategy", "keys"),
    [
        ('kind = "fedbn"', ""),
        ('kind = "scaffold"', ""),
        ('kind = "fedadam"', ""),
        ('kind = "fedavg"', 'exchange = "all_but_norms"'),
        ('kind = "fedavg"', 'exchange = "all_but_heads"'),
    ],
)
def test_every_exchange_and_strategy_pretrains(
    strategy: str, keys: str, tiny_cases: Cases, tmp_path: Path
) -> None:
    study = pretrained_study(strategy=strategy, keys=keys)
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    federation.run()
    assert [one.state for one in federation.rounds()] == [RoundState.CLOSED] * 5
    started, initial = bases(federation)[1], network_part(federation.initial)
    norms = {s.name for s in federation.plan.network.tensors if s.kind is TensorKind.NORM}
    stays = norms if "norms" in keys or "fedbn" in strategy else set[str]()
    for name, array in started.items():
        is_initial = name in stays or name.startswith("heads.")
        assert np.array_equal(array, initial[name]) == is_initial, name


def test_a_picture_is_of_the_pretrained_network_with_the_norms_of_its_site(
    tiny_cases: Cases, tmp_path: Path
) -> None:
    study = pretrained_study(keys='exchange = "all_but_norms"')
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    federation.run()
    held = pretrained_checkpoint(federation)
    state, agent = federation.state(held.digest), federation.agents()[SITE]
    made = agent.pretext_picture(state, run=RUN, stage=0, best_round=held.round)
    assert made is not None
    case, picture = made
    assert case == min(one.stored.case for one in tiny_cases[SITE].pretrain_validation)
    folder = federation.site(SITE) / "state"
    own = LocalState(folder, run=RUN, stage=0, plan=federation.plan.digest).local_tensors(
        up_to=held.round, exchange=plan_exchange(federation.plan, 0)
    )
    assert own
    assert study.pretrain is not None
    net = initial_pretext_network(study, study.pretrain)
    load_arrays(net, {**to_arrays(net), **state, **own})
    expected = picture_case(
        net,
        next(one for one in tiny_cases[SITE].pretrain_validation if one.stored.case == case),
        partners=(*tiny_cases[SITE].pretrain_validation, *tiny_cases[SITE].pretrain),
        study=study,
        stage=study.pretrain,
        device=CPU,
    )
    assert expected is not None
    assert torch.equal(picture.given, expected.given)


def test_what_was_pretrained_is_given_away_with_its_record(
    tiny_cases: Cases, tmp_path: Path
) -> None:
    study = pretrained_study(strategy='kind = "fedadam"')
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    federation.run()
    held = pretrained_checkpoint(federation)
    pretrained = federation.blobs.path(held.digest)
    record = read_record(pretrained)
    assert (record.task, record.transfers, record.channels) == ("volume_fusion", "whole", ("CT",))
    assert record.normalisation == study.preprocessing.normalisation
    assert federation.plan.pretraining is not None
    network = federation.plan.pretraining.network
    assert set(federation.state(held.digest)) == {
        spec.name for spec in network.tensors if spec.kind is not TensorKind.BUFFER
    }  # no companion, such as the server's moments
    losses = [one.metrics[ALL_SITES]["pretext_loss"].value for one in federation.rounds()[:2]]
    with StateFile(pretrained) as file:
        assert file.metadata["round"] == str(1 + losses.index(min(filter(None, losses))))
    started = bases(federation)[1]
    net = initial_network(study)
    report = transfer(
        net,
        federation.state(held.digest),
        record,
        terms=TransferTerms(
            channels=study.data.channels,
            normalisation=study.preprocessing.normalisation,
            parts="whole",
        ),
    )
    assert set(report.left_out) == {name for name in started if name.startswith("heads.")}
    for name, array in to_arrays(net).items():
        np.testing.assert_array_equal(array, started[name], err_msg=name)


def test_a_probe_tells_dice_where_there_are_labels_and_changes_no_bit(
    tiny_cases: Cases, tmp_path: Path
) -> None:
    """In every second round; a site without training labels has none to tell."""
    bare = tiny_cases[SiteId("hospital_2")]
    cases = {
        **tiny_cases,
        SiteId("hospital_2"): replace(bare, train=(), unlabelled=(*bare.train, *bare.unlabelled)),
    }
    found: dict[str, Federation] = {}
    for name, keys in (("bare", ""), ("probed", "probe = { every = 2, steps = 3 }")):
        text = pretrained_text(keys=keys).replace("rounds = 3", "rounds = 1")
        study = parse_study(text, where="tiny.toml")
        federation = make_federation(study, cases=cases, folder=tmp_path / name, digest="0" * 64)
        federation.run()
        found[name] = federation
    without, probed = found["bare"].rounds(), found["probed"].rounds()
    assert [one.state for one in probed] == [RoundState.CLOSED] * 3
    for one, other in zip(without, probed, strict=True):
        ours, theirs = one.metrics[ALL_SITES], dict(other.metrics[ALL_SITES])
        has_probe = (other.stage, other.index) == (0, 2)
        assert (theirs.pop("probe_dice", None) is not None) == has_probe
        assert ours == theirs
    for stage, start in bases(found["bare"]).items():
        for name, array in bases(found["probed"])[stage].items():
            np.testing.assert_array_equal(array, start[name], err_msg=name)
    stats = {site: told["probe_dice"] for site, told in probed[1].metrics.items()}
    judged = {site: len(one.validation) for site, one in cases.items()}
    assert {site: (one.n, one.undefined) for site, one in stats.items() if site != ALL_SITES} == {
        site: (0, num) if site == "hospital_2" else (num, 0) for site, num in judged.items()
    }
    together = stats[ALL_SITES]
    assert together.value is not None
    assert 0 <= together.value <= 1
    assert together.n == sum(judged.values()) - judged[SiteId("hospital_2")]


PCT_NET = """kind = "pct_net"
features = [4, 6, 8, 8, 12]
num_heads = [2, 2, 4]
norm = "group"
flat_stages = 1"""


def test_pct_net_pretrains_and_finetunes_on_slices_thicker_than_wide(
    tiny_data: Path, tmp_path: Path
) -> None:
    """Its heads stay at their sites, norm layers in them included."""
    text = pretrained_text(task='kind = "mae"\nblock = 4', keys='exchange = "all_but_heads"')
    for old, new in (
        ('kind = "unet"\nfeatures = [4, 8]', PCT_NET),
        ("spacing_mm = [4.0, 4.0, 4.0]", "spacing_mm = [4.0, 4.0, 8.0]"),
        ("size = [16, 16, 16]", "size = [32, 32, 8]"),
        ("rounds = 3\nsteps_per_round = 3", "rounds = 2\nsteps_per_round = 6"),
    ):
        assert old in text
        text = text.replace(old, new)
    study = parse_study(f"{text}[federation]\nmin_sites = 1\n", where="tiny.toml")
    prepared = prepare(tiny_data, folder=tmp_path / "prepared", study=study)
    cases = {site: prepared[site] for site in sorted(prepared)[:1]}
    federation = make_federation(study, cases=cases, folder=tmp_path / "run")
    federation.run()
    pretraining = federation.plan.pretraining
    assert pretraining is not None
    local = {spec.name for spec in plan_exchange(federation.plan, 0).local}
    assert any("norm" in name for name in local)
    assert local == {spec.name for spec in pretraining.network.tensors if "heads." in spec.name}
    rounds = federation.rounds()
    assert [one.state for one in rounds] == [RoundState.CLOSED] * 4
    for stage in (0, 1):
        told = [site.loss for one in rounds if one.stage == stage for site in one.sites]
        first, last = told[: len(cases)], told[-len(cases) :]
        assert sum(loss or 0 for loss in last) < sum(loss or 0 for loss in first)
