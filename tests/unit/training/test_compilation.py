"""What keeps `torch.compile` from working is told in words, before any step."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_text
from torch import Tensor, nn

from fedvol.config.learning import Sgd, Training
from fedvol.data.batch import Batch
from fedvol.errors import CompileError
from fedvol.models import to_arrays
from fedvol.plan import digest_json
from fedvol.training import Watch, Window, train

SGD = Sgd(kind="sgd")


class Unclear(nn.Module):
    """A network that decides by its values what it computes, which no compiler knows beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight if float(x.sum()) > 0 else x - self.weight


class Regression:
    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        return net(batch.image).square().mean()


class Noise:
    def batch(self, step: int) -> Batch:
        return Batch(image=torch.ones(1, 1, 2, 2, 2), label=torch.zeros(1, 2, 2, 2).long())


def test_a_network_that_cannot_be_compiled_is_refused_and_left_as_it_was() -> None:
    net = Unclear()
    steps: list[int] = []
    with pytest.raises(CompileError) as refused:
        train(
            net,
            objective=Regression(),
            batches=Noise(),
            config=Training(optimiser=SGD, num_threads=1, compile=True),
            window=Window(first_step=0, num_steps=2, total_steps=2),
            device=torch.device("cpu"),
            watch=Watch(on_step=lambda step, loss: steps.append(step)),
        )
    told = str(refused.value)
    assert told.startswith("FV-CONF-010 stages.training.compile: torch.compile cannot compile")
    assert told.endswith("Set compile = false, or choose another network.")
    assert "\n" not in told
    assert not steps
    assert to_arrays(net)["weight"].tolist() == [1.0]


def test_a_machine_without_a_compiler_is_told_before_anything_is_prepared(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(tiny_text(num_threads="num_threads = 1\ncompile = true"))
    words = ["simulate", study, "--data", tmp_path, "--out", tmp_path / "out", "--device", "cpu"]
    ended = subprocess.run(
        [sys.executable, "-m", "fedvol", *map(str, words)],
        env={"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if "FV-CONF-010" in line)
    assert "compile: torch.compile does not work on this machine's CPU" in line
    assert "No working C++ compiler found" in line
    assert "Install a C++ compiler (g++) and Python's headers, or set compile = false." in line
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_study_without_the_key_has_the_digest_it_had_before_there_was_one() -> None:
    without, off, on = (
        Training(optimiser=SGD, **keys) for keys in ({}, {"compile": False}, {"compile": True})
    )
    assert "compile" not in without.model_dump(mode="json")
    assert digest_json(off.model_dump(mode="json")) == digest_json(without.model_dump(mode="json"))
    assert on.model_dump(mode="json")["compile"] is True
    assert Training.model_validate_json(on.model_dump_json()) == on
