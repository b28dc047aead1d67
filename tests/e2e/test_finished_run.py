"""What a finished simulation leaves, and that every figure in it follows from its parts."""

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from tiny import events, figures, half_written

from fedvol.audit import verify_log
from fedvol.federation.metric_arrays import ARRAY_NAMES
from fedvol.files import digest_file
from fedvol.plan import Plan
from fedvol.report import Result, read_result

SITES = ("hospital_1", "hospital_2", "hospital_3")
LOCAL = tuple(f"local/{site}" for site in SITES)
NUM_SUMS = len(ARRAY_NAMES)
MODELS = ("federated", *LOCAL, "ensemble", "pooled")


@pytest.fixture(scope="module")
def result(tiny_run) -> Result:
    return read_result(tiny_run.out / "result.json")


def numbers(value: Any) -> list[float]:
    match value:
        case bool():
            return []
        case float() | int():
            return [float(value)]
        case dict():
            return [n for item in value.values() for n in numbers(item)]
        case list():
            return [n for item in value for n in numbers(item)]
        case _:
            return []


def test_result_is_valid_and_finite(tiny_run, result: Result) -> None:
    text = (tiny_run.out / "result.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    found = numbers(json.loads(text))
    assert len(found) > 500
    assert all(math.isfinite(number) for number in found)
    assert result.status == "finished"
    assert result.simulation


def test_every_model_is_there(tiny_run, result: Result) -> None:
    assert set(result.models) == set(result.evaluation) == set(MODELS)
    assert set(result.comparisons) == set(MODELS) - {"federated"}
    for name, model in result.models.items():
        if name == "ensemble":
            assert model.checkpoint is None
            continue
        assert model.checkpoint is not None
        assert model.digest == digest_file(tiny_run.out / model.checkpoint)
        assert model.digest == result.files[model.checkpoint]


def test_equal_gradient_steps(result: Result) -> None:
    """3 sites x 3 rounds x 3 steps, for every model alike; the ensemble is all local ones."""
    steps = {name: model.steps for name, model in result.models.items()}
    assert steps == dict.fromkeys(("federated", *LOCAL, "pooled"), 27) | {"ensemble": 81}


@pytest.mark.parametrize("model", MODELS)
def test_sites_add_up_to_the_whole(model: str, result: Result) -> None:
    evaluation = result.evaluation[model]
    assert set(evaluation.by_site) == set(SITES)
    wholes = {key: (evaluation.overall[key], key) for key in evaluation.overall}
    for name, stats in evaluation.by_class.items():
        wholes |= {f"{metric}/{name}": (stat, f"{metric}/{name}") for metric, stat in stats.items()}
    assert len(wholes) == 3 + 3 * 3
    for whole, key in wholes.values():
        parts = [evaluation.by_site[site][key] for site in SITES]
        assert whole.n == sum(part.n for part in parts)
        assert whole.undefined == sum(part.undefined for part in parts)
        assert whole.penalised == sum(part.penalised for part in parts)
        assert whole.n + whole.undefined == sum(result.sites[site].test_cases for site in SITES)
        if whole.n:
            total = sum((part.value or 0.0) * part.n for part in parts)
            assert whole.value == pytest.approx(total / whole.n, rel=1e-12)
        else:
            assert (whole.value, whole.withheld) == (None, "undefined")


@pytest.mark.parametrize("model", MODELS[1:])
def test_differences_are_between_the_means(model: str, result: Result) -> None:
    ours, theirs = result.evaluation["federated"], result.evaluation[model]
    assert {found.metric for found in result.comparisons[model]} >= {"dice", "hd95_mm", "nsd"}
    for found in result.comparisons[model]:
        if "/" in found.metric:
            continue
        a, b = ours.overall[found.metric].value, theirs.overall[found.metric].value
        assert a is not None
        assert b is not None
        assert found.value == pytest.approx(a - b, abs=1e-12)
        if found.low is not None and found.high is not None:
            assert found.low <= found.high


def test_rounds_are_told_in_full(result: Result) -> None:
    (stage,) = result.stages
    assert [(r.index, r.attempts) for r in stage.rounds] == [(1, 1), (2, 1), (3, 1)]
    for played in stage.rounds:
        assert set(played.sites) == set(SITES)
        for site, one in played.sites.items():
            assert one.state == "contributed"
            assert one.cases == result.sites[site].training_cases
            assert one.steps == 3
            assert one.bytes_up
            assert one.bytes_down
        parts = [played.validation_by_site[site]["dice"] for site in SITES]
        whole = played.validation["dice"]
        assert whole.value == pytest.approx(sum((p.value or 0) * p.n for p in parts) / whole.n)
    values = [played.validation["dice"].value for played in stage.rounds]
    assert stage.best_round == 1 + values.index(max(v for v in values if v is not None))


def test_per_case_rows_reproduce_the_figures(tiny_run, result: Result) -> None:
    """What stays at the sites is what the sums that left were made of."""
    rows = [
        json.loads(line)
        for site in SITES
        for line in (tiny_run.out / "sites" / site / "evaluations" / "federated.jsonl")
        .read_text()
        .splitlines()
    ]
    for key in ("dice", "hd95_mm", "nsd"):
        values = [row["values"][key] for row in rows if row["values"][key] is not None]
        whole = result.evaluation["federated"].overall[key]
        assert len(values) == whole.n
        assert sum(values) / len(values) == pytest.approx(whole.value, rel=1e-12)


def test_audit_logs_hold_exactly_what_left(tiny_run) -> None:
    plan = Plan.model_validate_json((tiny_run.out / "plan.json").read_bytes())
    num_tensors = len(plan.network.tensors)
    size_bytes = sum(4 * spec.size for spec in plan.network.tensors)
    for site in SITES:
        path = tiny_run.out / "sites" / site / "audit.jsonl"
        left = [json.loads(line)["event"] for line in path.read_text().splitlines()]
        assert verify_log(path).records == len(left)
        rounds = [(kind, number) for kind in ("update", "evaluation") for number in (1, 2, 3)]
        test = ("evaluation", read_best(tiny_run.out))
        assert Counter((one["kind"], one["round"]) for one in left) == Counter(
            [("health", 0), *rounds, test]
        )
        assert {one["site"] for one in left} == {site}
        assert {one["plan"] for one in left} == {plan.digest}
        for one in left:
            assert (
                one["num_tensors"]
                == {"update": num_tensors, "health": 0, "evaluation": NUM_SUMS}[one["kind"]]
            )
            if one["kind"] == "update":
                assert size_bytes < one["size_bytes"] < size_bytes + 500


def read_best(out: Path) -> int:
    best = read_result(out / "result.json").stages[0].best_round
    assert best is not None
    return best


def test_release_is_the_best_round_of_the_plan(tiny_run) -> None:
    plan = Plan.model_validate_json((tiny_run.out / "plan.json").read_bytes())
    released = load_file(tiny_run.out / "checkpoints" / "federated.safetensors")
    assert {name: tensor.shape for name, tensor in released.items()} == {
        spec.name: spec.shape for spec in plan.network.tensors
    }


def test_nothing_half_written_and_every_event_whole(tiny_run) -> None:
    assert half_written(tiny_run.out) == []
    told = [event["event"] for event in events(tiny_run.out)]
    assert told.count("run.finished") == 5  # federated, three local, pooled
    assert told.count("round.closed") == 15


def test_pages_are_there_and_report_makes_them_again(tiny_run, fedvol, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(tiny_run.out, out)
    before = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    assert fedvol("report", out).status == 0
    assert (out / "report.html").read_bytes() == before
    assert "federated" in (out / "model-card.md").read_text()


@pytest.mark.parametrize("baselines", [(), ("--baselines", "local,ensemble,pooled")])
def test_resuming_a_finished_run_changes_no_figure(
    baselines: tuple[str, ...], tiny_run, fedvol, tmp_path: Path
) -> None:
    """Also where fewer baselines are asked for than were judged: theirs are kept."""
    out = tmp_path / "out"
    shutil.copytree(tiny_run.out, out)
    told = len(events(out))
    left = [out, out / "sites" / "hospital_1", out / "blobs" / "federated", out / "checkpoints"]
    for folder in left:  # what a process killed while it wrote would leave
        (folder / ".x.4321.part").write_bytes(b"half")
    (out / "blobs" / "federated" / ".incoming-4321.4321.part.spool").write_bytes(b"half")
    ended = fedvol(
        "simulate", tiny_run.study, "--data", tiny_run.data, "--out", out, "--device", "cpu",
        *baselines, "--resume",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert figures(out / "result.json") == figures(tiny_run.out / "result.json")
    assert half_written(out) == []
    more = [event["event"] for event in events(out)[told:]]
    assert not {"round.opened", "round.closed", "site.contributed", "site.training"} & set(more)
