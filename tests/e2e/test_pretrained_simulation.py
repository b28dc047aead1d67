"""The command, with a hospital whose labels are all of validation and test cases."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from pretraining import pretrained_text, started_text, write_weights
from tiny import fedvol_command, tiny_study, without_training_labels

from fedvol.cli.main import main
from fedvol.errors import ConfigFileError, QuorumError, RunMismatchError
from fedvol.files import digest_file
from fedvol.plan import Plan
from fedvol.report import load_pretext_pictures
from fedvol.store import read_record
from fedvol.types import Digest

MAE = 'kind = "mae"\nblock = 4'


@pytest.fixture(scope="module")
def out(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    shutil.copytree(tiny_data, folder / "data")
    without_training_labels(folder / "data" / "hospital_3")
    (folder / "study.toml").write_text(pretrained_text(task=MAE))
    subprocess.run(
        fedvol_command(
            "simulate",
            folder / "study.toml",
            "--data",
            folder / "data",
            "--out",
            folder / "out",
            "--device",
            "cpu",
            "--baselines",
            "pooled",
        ),
        check=True,
        capture_output=True,
    )
    return folder / "out"


@pytest.fixture(scope="module")
def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text())


def test_the_hospital_without_training_labels_pretrains_alone(result: dict[str, Any]) -> None:
    pretrain, finetune = result["stages"]
    assert (pretrain["name"], pretrain["kind"]) == ("pretrain", "mae")
    assert pretrain["select_by"] == "pretext_loss"
    assert pretrain["best_round"] in (1, 2)
    for stage, state in ((pretrain, "contributed"), (finetune, "no_labels")):
        assert {one["sites"]["hospital_3"]["state"] for one in stage["rounds"]} == {state}


def test_the_pretrained_weights_are_a_file_of_their_own(out: Path, result: dict[str, Any]) -> None:
    name = "checkpoints/pretrained.safetensors"
    assert result["files"][name] == digest_file(out / name)
    record = read_record(out / name)
    assert (record.task, record.transfers) == ("mae", "whole")
    assert (record.patch, record.spacing_mm) == ((16, 16, 16), (4, 4, 4))


def test_a_run_that_fails_in_finetuning_leaves_the_pretrained_weights(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Digest:
        raise QuorumError("run", "too few sites", "Add sites.")

    monkeypatch.setattr("fedvol.server.coordinator.put_release", fail)
    data, study = out.parent / "data", out.parent / "study.toml"
    words = ["simulate", study, "--data", data, "--out", tmp_path / "out"]
    assert main([*map(str, words), "--device", "cpu"]) == QuorumError.exit_status
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["status"] == "failed"
    assert [*told["files"]] == ["checkpoints/pretrained.safetensors"]
    assert read_record(tmp_path / "out" / "checkpoints" / "pretrained.safetensors")


def test_every_round_has_a_loss_on_the_body_of_all_sites_and_of_each(
    result: dict[str, Any],
) -> None:
    for one in result["stages"][0]["rounds"]:
        for found in (one["validation"], *one["validation_by_site"].values()):
            assert found["pretext_body_loss"]["value"] > 0
            assert found["pretext_body_loss"]["n"] == found["pretext_loss"]["n"] > 0


def test_pooled_takes_the_steps_of_all_that_train_in_each_stage(result: dict[str, Any]) -> None:
    models = result["models"]
    # 2 rounds of 3 steps at three sites, then 3 rounds of 3 at two.
    assert models["federated"]["steps"] == models["pooled"]["steps"] == 2 * 3 * 3 + 3 * 3 * 2


def test_cases_are_counted_for_each_stage(out: Path, result: dict[str, Any]) -> None:
    """Of three hospitals with three patients each to train on, one has no label of theirs."""
    counted = {
        site: (one["training_cases"], one["pretraining_cases"], one["pretraining_subjects"])
        for site, one in result["sites"].items()
    }
    assert counted == {
        "hospital_1": (3, 3, 3),
        "hospital_2": (3, 3, 3),
        "hospital_3": (0, 3, 3),
    }
    for model in ("federated", "pooled"):
        behind = result["models"][model]
        assert (behind["cases"], behind["pretraining_cases"]) == (6, 9), model
    page, card = ((out / name).read_text() for name in ("report.html", "model-card.md"))
    row = re.sub(r"<[^>]+>", " ", page[page.index('<section id="data"') :])
    assert "hospital_3 0 labelled 0 subjects 3 for pretraining 3 subjects" in " ".join(row.split())
    assert "6 labelled, 9 for pretraining" in page
    assert "| hospital\\_3 | 0 (0) labelled, 3 (3) for pretraining |" in card


def test_the_report_calls_no_pretext_network_released(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert "pretext loss and was finetuned from" in page
    assert page.count("and was released") == 1
    assert "This report has no description" not in page
    assert "Validation pretext loss (no unit) after each round" in page
    assert "Validation pretext loss on body (no unit) after each round" in page
    assert 'id="cases"' in page
    assert "Dice" in page.split("<h1>")[1][:4000]


def test_the_report_shows_what_the_pretext_task_was_about(
    out: Path, tmp_path: Path, fedvol: Command
) -> None:
    pictures = load_pretext_pictures(out / "pretext-pictures.npz")
    assert [one.site for one in pictures] == ["hospital_1", "hospital_2", "hospital_3"]
    for one in pictures:
        assert len(np.unique(one.wanted)) > 2
        assert not np.array_equal(one.shown, one.wanted)
        assert not np.array_equal(one.given, one.wanted)
    page = (out / "report.html").read_text()
    asked = page.split("What the network was asked")[1].split("Stage finetune")[0]
    assert asked.count("<img ") == 3 * len(pictures)
    (tmp_path / "out").mkdir()
    for name in ("result.json", "plan.json", "pictures.npz", "pretext-pictures.npz"):
        shutil.copyfile(out / name, tmp_path / "out" / name)
    assert fedvol("report", tmp_path / "out").status == 0
    assert (tmp_path / "out" / "report.html").read_text() == page


def test_another_study_goes_on_from_the_file(
    out: Path, tiny_data: Path, tmp_path: Path, fedvol: Command
) -> None:
    """It may lie elsewhere when the run is resumed; with other content it is another run."""
    study, weights = tmp_path / "study.toml", tmp_path / "w.safetensors"
    weights.write_bytes((out / "checkpoints" / "pretrained.safetensors").read_bytes())
    study.write_text(started_text("w.safetensors"))
    words = ["simulate", study, "--data", tiny_data, "--out", tmp_path / "out"]
    ended = fedvol(*words, "--device", "cpu", "--baselines", "pooled")
    assert ended.status == 0, ended.err
    for run in ("plan.json", "baselines/pooled/plan.json"):
        plan = Plan.model_validate_json((tmp_path / "out" / run).read_bytes())
        assert plan.start is not None
        assert plan.start.digest == digest_file(weights)
    assert (
        f"pretrained by {read_record(weights).task}"
        in (tmp_path / "out" / "report.html").read_text()
    )
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert "checkpoints/pretrained.safetensors" not in told["files"]
    assert not (tmp_path / "out" / "pretext-pictures.npz").exists()

    weights.rename(tmp_path / "moved.safetensors")
    study.write_text(started_text("moved.safetensors"))
    assert fedvol(*words, "--device", "cpu", "--resume").status == 0
    write_weights(tmp_path / "moved.safetensors", like=tiny_study())
    ended = fedvol(*words, "--device", "cpu", "--resume")
    assert ended.status == RunMismatchError.exit_status
    assert "other plan than when this run began" in ended.err

    (tmp_path / "moved.safetensors").unlink()  # the run kept its own copy
    assert digest_file(tmp_path / "out" / "weights.safetensors") == plan.start.digest
    assert fedvol(*words, "--device", "cpu", "--resume").status == 0
    (tmp_path / "out" / "weights.safetensors").unlink()
    ended = fedvol(*words, "--device", "cpu", "--resume")
    assert ended.status == ConfigFileError.exit_status
    assert "moved.safetensors: there is no such file of weights" in ended.err
