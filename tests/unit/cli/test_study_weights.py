"""`fedvol study check` of a study that begins with a file of pretrained weights."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from pretraining import started_text, write_weights
from tiny import tiny_study

from fedvol.errors import BlobDamagedError, TransferError
from fedvol.store import write_state


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(started_text("w.safetensors"))
    return path


def test_weights_that_fit_are_told_tensor_by_tensor(fedvol: Command, study: Path) -> None:
    write_weights(study.parent / "w.safetensors", like=tiny_study())
    ended = fedvol("study", "check", study, "--json")
    assert ended.status == 0, ended.err
    report = json.loads(ended.out)["weights"]["report"]
    assert report["missing"] == {}
    assert set(report["left_out"]) == {"heads.0.weight", "heads.0.bias"}
    assert f"Taken over: {len(report['loaded'])} tensors" in ended.err
    assert "Left out: 2 tensors of 20 values: heads.0.weight, heads.0.bias" in ended.err


def test_weights_that_do_not_fit_are_a_problem_of_the_study(fedvol: Command, study: Path) -> None:
    other = tiny_study(features="features = [4, 6]")
    write_weights(study.parent / "w.safetensors", like=other)
    ended = fedvol("study", "check", study, "--json")
    assert ended.status == TransferError.exit_status
    told = json.loads(ended.out)["error"]
    assert told["code"] == TransferError.code
    assert [one["where"] for one in told["problems"]] == ["architecture", "encoder", "decoder"]
    assert "is valid" not in ended.err


def bare(path: Path) -> None:
    write_state(path, {"conv.weight": np.zeros((3, 3), np.float32)}.items(), metadata={})


def cut(path: Path) -> None:
    write_weights(path, like=tiny_study())
    path.write_bytes(path.read_bytes()[:-100])


def pytorch(path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, path)


def other_channels(path: Path) -> None:
    write_weights(path, like=tiny_study(channels='channels = ["CT", "PET"]'))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (pytorch, "FV-CONF-011 {}: 1 problem\n  format: it is a checkpoint of PyTorch"),
        (cut, "FV-STORE-003 {}: it is no whole safetensors file: its size differs"),
        (lambda path: path.write_text("weights"), "FV-STORE-003 {}: it is no whole safetensors"),
        (bare, "FV-CONF-011 {}: 1 problem\n  metadata.adaptation: the file does not say"),
        (other_channels, "FV-CONF-011 {}: 1 problem\n  channels: the channels were CT, PET, and"),
    ],
)
def test_a_foreign_file_is_named_before_anything_lies_anywhere(
    make: Callable[[Path], None],
    told: str,
    fedvol: Command,
    study: Path,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    file, out = study.parent / "w.safetensors", tmp_path / "out"
    make(file)
    for words in (
        ("study", "check", study),
        ("simulate", study, "--data", tiny_data, "--out", out),
    ):
        ended = fedvol(*words)
        assert ended.status in (TransferError.exit_status, BlobDamagedError.exit_status)
        assert ended.err.startswith(told.format(file)), ended.err
        assert not out.exists()


def test_weights_elsewhere_are_not_looked_at(fedvol: Command, study: Path) -> None:
    ended = fedvol("study", "check", study, "--json")
    assert ended.status == 0
    assert json.loads(ended.out)["weights"] == {"found": False}
    assert "Not looked at: the pretrained weights, w.safetensors" in ended.err


def test_an_open_study_is_told_whether_they_fit_once_it_is_planned(
    fedvol: Command, study: Path
) -> None:
    write_weights(study.parent / "w.safetensors", like=tiny_study())
    study.write_text(study.read_text().replace("size = [16, 16, 16]", ""))
    ended = fedvol("study", "check", study, "--json")
    assert ended.status == 0
    assert "told once planned" in ended.err
    assert "report" not in json.loads(ended.out)["weights"]
