"""`fedvol study plan`: what a user types, and what goes wrong."""

import json
from pathlib import Path

import pytest
from tiny import tiny_text

from fedvol.plan import Plan


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "open.toml"
    path.write_text(tiny_text(normalisation="", size="", batch_size=""))
    return path


def test_tells_every_value_with_its_reason(fedvol, study: Path, tiny_data: Path) -> None:
    out = study.parent / "plans" / "plan.json"
    ended = fedvol("study", "plan", study, "--data", tiny_data, "--json", "--out", out)
    assert ended.status == 0, ended.err
    told = json.loads(ended.out)
    assert told["sites"] == ["hospital_1", "hospital_2", "hospital_3"]
    settings = {one["key"]: one for one in told["settings"]}
    planned = {key for key, one in settings.items() if one["from"] == "planned"}
    assert planned == {"preprocessing.normalisation", "patches.size", "patches.batch_size"}
    assert settings["preprocessing.spacing_mm"]["reason"] == "written in the study file"
    assert settings["network.strides"] == {
        "key": "network.strides",
        "value": [[1, 1, 1], [2, 2, 2]],
        "from": "default",
        "reason": "left to its default: 2 from the second stage on",
    }
    for key, one in settings.items():
        assert key in ended.err
        assert one["reason"].split(",")[0] in " ".join(ended.err.split())
    assert {path.name for path in study.parent.iterdir()} == {"open.toml", "plans"}

    plan = Plan.model_validate_json(out.read_bytes())
    assert plan.planning is not None
    assert plan.planning.fingerprint == told["fingerprint"]
    assert [*plan.study.patches.size] == settings["patches.size"]["value"]
    assert plan.sites == ("hospital_1", "hospital_2", "hospital_3")


def test_a_study_without_open_values_reads_no_volume(fedvol, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_text())
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "labels").mkdir()
    (data / "images" / "a.nii.gz").write_bytes(b"no volume")
    (data / "labels" / "a.nii.gz").write_bytes(b"no volume")
    (data / "cases.csv").write_text("case,subject,site,fold\na,S1,one,0\n")
    ended = fedvol("study", "plan", tmp_path / "tiny.toml", "--data", data, "--json")
    assert ended.status == 0, ended.err
    told = json.loads(ended.out)
    assert told["fingerprint"] is None
    assert {one["from"] for one in told["settings"]} == {"study", "default"}


def test_a_folder_that_is_not_there(fedvol, study: Path) -> None:
    ended = fedvol("study", "plan", study, "--data", study.parent / "absent")
    assert ended.status == 3
    assert "FV-DATA-001" in ended.err


def test_no_plan_from_too_few_sites(fedvol, study: Path, tiny_data: Path) -> None:
    one = tiny_data / "hospital_1"
    ended = fedvol("study", "plan", study, "--data", one)
    assert ended.status == 5
    assert "1 of 1 sites told of training cases, the study needs 2" in ended.err


def test_out_that_is_a_folder(fedvol, tmp_path: Path, tiny_data: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_text())
    ended = fedvol("study", "plan", tmp_path / "tiny.toml", "--data", tiny_data, "--out", tmp_path)
    assert ended.status == 7
    assert "FV-STORE" in ended.err
    assert "preprocessing.spacing_mm" in ended.err  # the plan is told all the same
