"""The personalise stage from study to report, and what a site refuses in it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import RUN, Federation, make_federation, personalise, tiny_study, tiny_text

from fedvol.federation import Action, Request, SiteState
from fedvol.models import to_arrays
from fedvol.plan import TensorKind
from fedvol.report import read_result
from fedvol.store import BlobStore, RunStore, open_engine
from fedvol.types import SiteId

DITTO = personalise('kind = "ditto", pull = 0.1', rounds=3, steps=2)


@pytest.fixture(scope="module")
def out(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fedvol.cli.main import main

    folder = tmp_path_factory.mktemp("personalise")
    study = folder / "study.toml"
    study.write_text(tiny_text(more=DITTO, rounds="rounds = 2"))
    words = ["simulate", study, "--data", tiny_data, "--out", folder / "out", "--device", "cpu"]
    assert main([*map(str, words), "--baselines", "local,pooled"]) == 0
    return folder / "out"


def test_the_result_holds_both_stages_and_the_personal_figures(out: Path) -> None:
    result = read_result(out / "result.json")
    first, second = result.stages
    assert (first.name, first.strategy, len(first.rounds)) == ("finetune", "fedavg", 2)
    assert (second.name, second.strategy, len(second.rounds)) == ("personalise", "ditto", 3)
    assert second.is_personal
    assert second.best_round in (1, 2, 3)
    assert second.rounds[0].started_s > first.rounds[-1].started_s
    for item in second.rounds:
        assert {site.state for site in item.sites.values()} == {"personalised"}
        assert item.validation["dice"].value is not None
    assert {"federated", "personalised"} <= set(result.evaluation)
    personal = result.evaluation["personalised"]
    assert set(personal.by_site) == set(result.sites)
    assert personal.overall["dice"].n == result.evaluation["federated"].overall["dice"].n
    assert "personalised" in result.comparisons


def test_the_release_is_one_file_and_personal_models_stay(out: Path) -> None:
    result = read_result(out / "result.json")
    assert result.models["personalised"].checkpoint is None
    names = {path.name for path in (out / "checkpoints").iterdir()}
    assert not {name for name in names if "personal" in name}
    held = sorted(out.glob("sites/*/state/federated/stage-1/local-*.safetensors"))
    assert len(held) == 3 * 3
    for log in out.glob("sites/*/audit.jsonl"):
        left = [json.loads(line)["event"] for line in log.read_text().splitlines()]
        later = [one for one in left if one.get("stage") == 1]
        reports = [one for one in later if one["kind"] == "report"]
        assert [one["action"] for one in reports] == ["train.personalise"] * 3
        assert {one["num_tensors"] for one in reports} == {0}
        assert {one["kind"] for one in later} == {"report", "evaluation"}


def test_the_release_is_the_global_model_of_the_best_round(out: Path) -> None:
    result = read_result(out / "result.json")
    engine = open_engine(out / "run.db")
    rounds = RunStore(engine).rounds(RUN, stage=0)
    engine.dispose()
    best = next(one for one in rounds if one.index == result.stages[0].best_round)
    assert best.aggregate is not None
    with BlobStore(out / "blobs" / RUN).open(best.aggregate) as file:
        aggregate = file.read_all()
    released = load_file(out / "checkpoints" / "federated.safetensors")
    assert released.keys() == aggregate.keys()
    assert all(released[name].tobytes() == aggregate[name].tobytes() for name in released)
    for path in out.glob("sites/*/state/federated/stage-1/local-*.safetensors"):
        personal = load_file(path)
        assert any(not np.array_equal(personal[name], released[name]) for name in personal)


def test_the_audit_logs_verify_and_tell_of_every_round(out: Path, fedvol) -> None:
    logs = sorted(out.glob("sites/*/audit.jsonl"))
    assert len(logs) == 3
    for log in logs:
        ended = fedvol("audit", "verify", log, "--json")
        assert ended.status == 0, ended.err
        lines = log.read_text().splitlines()
        assert json.loads(ended.out)["records"] == len(lines)
        # A change of what the personal stage told breaks the chain.
        place = max(n for n, line in enumerate(lines) if "train.personalise" in line)
        lines[place] = lines[place].replace("train.personalise", "train.finetune")
        forged = log.with_name("forged.jsonl")
        forged.write_text("\n".join(lines) + "\n")
        assert fedvol("audit", "verify", forged).status == 4
        forged.unlink()


def test_baselines_get_the_steps_of_both_stages(out: Path) -> None:
    """Two rounds of three and three of two at three sites: 36, as 4 rounds of 9."""
    models = read_result(out / "result.json").models
    assert models["federated"].steps == 2 * 3 * 3
    assert models["personalised"].steps == 2 * 3 * 3 + 3 * 2 * 3
    assert models["pooled"].steps == models["local/hospital_1"].steps == 36


def test_report_and_card_say_whose_model_it_is(out: Path) -> None:
    for name in ("report.html", "model-card.md"):
        text = (out / name).read_text()
        words = " ".join(text.replace("\\", "").split())
        assert "own test cases only" in words, name
        assert "Ditto (lambda 0.1 towards the released model)" in words, name
    page = (out / "report.html").read_text()
    assert "tested: each site keeps its own" in page
    assert "Participation in stage personalise" in page
    assert "trained its model in 3 of 3 rounds" in page


def test_the_live_view_names_the_stage(out: Path) -> None:
    lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    closed = [(one["stage"], one["round"]) for one in lines if one["event"] == "round.closed"]
    assert closed[:5] == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]
    assert sum(one["event"] == "site.personalised" for one in lines) == 9


# --- at the site ------------------------------------------------------------------------------


def request_of(federation: Federation, action: Action, stage: int, **changes) -> Request:
    fields = {
        "run": RUN,
        "plan": federation.plan.digest,
        "stage": stage,
        "round": 1,
        "site": SiteId("hospital_1"),
        "action": action,
        "state": dict(federation.initial),
        "arguments": {"start_round": 1} if stage else {},
        "limit_s": 60.0,
    }
    return Request(**{**fields, **changes})


@pytest.mark.parametrize(
    ("action", "stage", "changes", "named"),
    [
        (Action.NORMS, 1, {}, "never leaves its site"),
        (Action.FINETUNE, 1, {}, "trains no model of the study's task"),
        (Action.PERSONALISE, 0, {}, "trains no personal models"),
        (Action.PERSONALISE, 1, {"arguments": {}}, "which round was released"),
        (Action.PERSONALISE, 1, {"state": {}}, "other tensors than the plan"),
        (Action.VALIDATE, 1, {"state": {}}, "other tensors than the plan"),
    ],
)
def test_a_site_refuses(action, stage, changes, named: str, tiny_cases, tmp_path: Path) -> None:
    study = tiny_study(more=DITTO, rounds="rounds = 1")
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    agent = federation.agents()[SiteId("hospital_1")]
    refused = agent.handle(request_of(federation, action, stage, **changes))
    assert refused.code
    assert not refused.tensors
    (event,) = federation.observer.named("site.refused")
    assert named in str(event["detail"])


def test_under_fedbn_a_site_starts_from_its_own_norms(tiny_cases, tmp_path: Path) -> None:
    study = tiny_study(
        strategy='kind = "fedbn"',
        rounds="rounds = 2",
        more=personalise('kind = "finetune", parts = "head"', rounds=1),
    )
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    outcome, _ = federation.run(test=True)
    release = federation.state(outcome.release)
    kinds = {spec.name: spec.kind for spec in federation.plan.network.tensors}
    assert set(federation.personal_tests) == set(federation.cases)
    for site, agent in federation.agents().items():
        folder = federation.site(site) / "state" / RUN
        norms = load_file(folder / "stage-0" / f"local-{outcome.best_round:06d}.safetensors")
        head = load_file(folder / "stage-1" / "local-000001.safetensors")
        asked = request_of(
            federation,
            Action.VALIDATE,
            1,
            site=site,
            state=release,
            arguments={"start_round": outcome.best_round},
        )
        assert not agent.handle(asked).code
        for name, tensor in to_arrays(agent.network.net, list(release)).items():
            match kinds[name]:
                case TensorKind.NORM:
                    np.testing.assert_array_equal(tensor, norms[name])
                case TensorKind.HEAD:
                    np.testing.assert_array_equal(tensor, head[name])
                case _:
                    np.testing.assert_array_equal(tensor, release[name])


def test_a_site_without_training_cases_judges_the_release(tiny_cases, tmp_path: Path) -> None:
    cases = dict(tiny_cases)
    cases[SiteId("hospital_3")] = replace(cases[SiteId("hospital_3")], train=())
    study = tiny_study(more=DITTO, rounds="rounds = 1")
    federation = make_federation(study, cases=cases, folder=tmp_path)
    _, tests = federation.run(test=True)
    last = federation.rounds()[-1]
    states = {site.site: site.state for site in last.sites}
    assert states[SiteId("hospital_3")] is SiteState.NO_LABELS
    ours, theirs = federation.personal_tests, tests
    np.testing.assert_array_equal(
        ours[SiteId("hospital_3")].sums, theirs[SiteId("hospital_3")].sums
    )
    assert not np.array_equal(ours[SiteId("hospital_1")].sums, theirs[SiteId("hospital_1")].sums)
