"""`fedvol simulate --sweep`: what a researcher types, sees, loses and gets back."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import fedvol_command, tiny_text

SWEEP = """
version = 1
seeds = [0, 1]
baseline = { pretraining = "scratch" }
target = { share = 0.9, of = { labels = "all", pretraining = "scratch" } }

[axes.labels.few]
data.few_labels = { subjects = 1 }

[axes.labels.all]

[axes.pretraining.scratch]

[axes.pretraining.mae.stages.pretrain]
task = { kind = "mae", block = 4 }
strategy = { kind = "fedavg" }
rounds = 1
steps_per_round = 2
training = { optimiser = { kind = "adamw", learning_rate = 5e-3 }, num_threads = 1 }
"""


def sweep_command(folder: Path, *, data: Path, words: tuple[str, ...] = ()) -> list[str]:
    """The command of a sweep in a folder."""
    return fedvol_command(
        "simulate",
        folder / "study.toml",
        "--sweep",
        folder / "sweep.toml",
        "--data",
        data,
        "--out",
        folder / "out",
        "--device",
        "cpu",
        *words,
    )


def written(folder: Path, *, sweep: str = SWEEP) -> Path:
    """A folder with the tiny study and a sweep of it."""
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(tiny_text())
    (folder / "sweep.toml").write_text(sweep)
    return folder


@pytest.fixture(scope="module")
def interrupted(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose process was killed after its first run, and that was resumed."""
    folder = written(tmp_path_factory.mktemp("sweep"))
    command = sweep_command(folder, data=tiny_data, words=("--workers", "2"))
    with (folder / "log").open("w") as log:
        killed = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(1200):
            if "1/8" in (folder / "log").read_text() or killed.poll() is not None:
                break
            time.sleep(0.1)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert json.loads((folder / "out" / "sweep.json").read_text())["variants"]
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    return folder / "out"


@pytest.fixture(scope="module")
def result(interrupted: Path) -> dict[str, Any]:
    return json.loads((interrupted / "sweep.json").read_text())


def test_every_variant_has_every_seed(result: dict[str, Any]) -> None:
    assert {run["status"] for run in result["runs"]} == {"finished"}
    assert [(*run["variant"].values(), run["seed"]) for run in result["runs"]] == [
        (labels, pretraining, seed)
        for seed in (0, 1)
        for labels in ("few", "all")
        for pretraining in ("scratch", "mae")
    ]
    assert [one["seeds"] for one in result["variants"]] == [2] * 4
