"""`fedvol simulate --sweep`: what a researcher types, sees, loses and gets back."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import fedvol_command, tiny_text

from fedvol.cli.main import main
from fedvol.errors import (
    OutputFolderError,
    QuorumError,
    RunMismatchError,
    SplitError,
    SweepFailedError,
)
from fedvol.files import digest_file

SWEEP = """
version = 1
seeds = [0, 1]
baseline = { labels = "all" }
target = { share = 0.9, of = { labels = "all" } }

[axes.labels.few]
data.few_labels = { subjects = 1 }

[axes.labels.all]
"""
START_S = 120.0


def sweep_words(folder: Path, *, data: Path) -> list[str]:
    """The words of a sweep of the study in a folder."""
    words = ("simulate", folder / "study.toml", "--sweep", folder / "sweep.toml", "--data", data)
    return [*map(str, words), "--out", str(folder / "out"), "--device", "cpu", "--workers", "2"]


def write_sweep(folder: Path, *, sweep: str = SWEEP, rounds: str = "rounds = 2") -> Path:
    """A folder with the tiny study and a sweep of it."""
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(tiny_text(rounds=rounds))
    (folder / "sweep.toml").write_text(sweep)
    return folder


def wait_for(is_there: Callable[[], bool]) -> None:
    """Wait until something is there.

    Raises:
        TimeoutError: It did not come.
    """
    until = time.monotonic() + START_S
    while not is_there():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.05)


@pytest.fixture(scope="module")
def out(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was killed after its first run and resumed; `first` is what there was then."""
    folder = write_sweep(tmp_path_factory.mktemp("sweep"))
    command = fedvol_command(*sweep_words(folder, data=tiny_data))
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    results = folder / "out" / "runs"
    wait_for(lambda: any(results.glob("*/*/result.json")) or killed.poll() is not None)
    killed.kill()
    killed.wait()
    begun = [int(lock.read_text()) for lock in results.glob("*/*/.lock")]
    wait_for(lambda: not any(Path(f"/proc/{process}").exists() for process in begun))
    (folder / "first").write_text("".join(map(str, results.glob("*/*/result.json"))))
    told = subprocess.run([*command, "--resume"], check=True, capture_output=True, text=True)
    (folder / "told").write_text(told.stderr)
    return folder / "out"


@pytest.fixture(scope="module")
def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "sweep.json").read_text())


def test_every_variant_has_every_seed_after_a_kill(out: Path, result: dict[str, Any]) -> None:
    assert (out.parent / "first").read_text()
    assert "0 of 4 runs are finished" not in (out.parent / "told").read_text()
    assert {run["status"] for run in result["runs"]} == {"finished"}
    assert [(run["variant"]["labels"], run["seed"]) for run in result["runs"]] == [
        ("few", 0),
        ("all", 0),
        ("few", 1),
        ("all", 1),
    ]
    assert [one["seeds"] for one in result["variants"]] == [2, 2]


def test_the_runs_are_ordinary_simulations_with_their_seeds_and_labels(
    out: Path, result: dict[str, Any]
) -> None:
    for run in result["runs"]:
        told = json.loads((out / run["folder"] / "result.json").read_text())
        assert told["seed"] == run["seed"]
        assert told["evaluation"]["federated"]["overall"]["dice"]["value"] == run["value"]
        subjects = {site["training_subjects"] for site in told["sites"].values()}
        assert (subjects == {1}) == (run["variant"]["labels"] == "few")


def test_a_variant_is_the_mean_of_its_seeds_and_is_compared_case_by_case(
    result: dict[str, Any],
) -> None:
    few, every = result["variants"]
    values = {
        labels: [run["value"] for run in result["runs"] if run["variant"]["labels"] == labels]
        for labels in ("few", "all")
    }
    assert few["stat"]["value"] == pytest.approx(sum(values["few"]) / 2)
    assert (few["lowest"], few["highest"]) == (min(values["few"]), max(values["few"]))
    each = [a - b for a, b in zip(values["few"], values["all"], strict=True)]
    assert few["difference"]["value"] == pytest.approx(sum(each) / 2)
    assert (few["difference"]["lowest"], few["difference"]["highest"]) == (min(each), max(each))
    assert every["difference"] is None


def test_steps_to_the_target_are_those_of_the_first_round_that_reaches_it(
    out: Path, result: dict[str, Any]
) -> None:
    validation: dict[tuple[str, int], list[float]] = {}
    for run in result["runs"]:
        (stage,) = json.loads((out / run["folder"] / "result.json").read_text())["stages"]
        values = [one["validation"]["dice"]["value"] for one in stage["rounds"]]
        assert [point["value"] for point in run["curve"]] == values
        assert [point["steps"] for point in run["curve"]] == [3, 6]
        validation[run["variant"]["labels"], run["seed"]] = values
    target = 0.9 * (validation["all", 0][-1] + validation["all", 1][-1]) / 2
    assert result["target"]["value"] == pytest.approx(target)
    for run in result["runs"]:
        values = validation[run["variant"]["labels"], run["seed"]]
        reached = [steps for steps, value in zip((3, 6), values, strict=True) if value >= target]
        assert run["steps_to_target"] == (reached[0] if reached else None)


def test_the_pages_say_what_the_figures_are(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, table = (out / "sweep.html").read_text(), (out / "sweep.md").read_text()
    for text in (page, table):
        assert "the same for every row" in text
        assert "gradient steps of each site" in text or "of each site" in text
    for name in ("sweep.html", "sweep.md"):
        (out / name).unlink()
    assert main(["report", str(out)]) == 0
    assert (out / "sweep.html").read_text() == page
    assert (out / "sweep.md").read_text() == table
    assert "sweep.html" in capsys.readouterr().err


def test_a_finished_sweep_runs_nothing_again(tiny_data: Path, out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/result.json")}
    assert main([*sweep_words(out.parent, data=tiny_data), "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_sweep_is_not_begun_over_another(
    tiny_data: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = sweep_words(out.parent, data=tiny_data)
    assert main(words) == OutputFolderError.exit_status
    assert "--resume" in capsys.readouterr().err
    other = write_sweep(out.parent / "other", rounds="rounds = 3")
    words[words.index("--out") + 1] = str(out)
    words[1] = str(other / "study.toml")
    assert main([*words, "--resume"]) == RunMismatchError.exit_status
    assert "few/seed-0 was begun with another study" in capsys.readouterr().err


def test_a_run_that_fails_leaves_the_others_and_is_told(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = "federation.train_limit_s = 1e-3\n\n[axes.labels.all]"
    sweep = SWEEP.replace("seeds = [0, 1]", "seeds = [0]").replace("[axes.labels.all]", late)
    folder = write_sweep(tmp_path / "s", sweep=sweep)
    assert main(sweep_words(folder, data=tiny_data)) == SweepFailedError.exit_status
    assert "1 of 2 runs failed; few/seed-0: FV-" in capsys.readouterr().err
    told = json.loads((folder / "out" / "sweep.json").read_text())
    assert [run["status"] for run in told["runs"]] == ["failed", "finished"]
    assert [one["variant"] for one in told["variants"]] == [{"labels": "all"}]
    assert "failed" in (folder / "out" / "sweep.html").read_text()


def test_what_the_data_do_not_do_for_is_told_before_anything_runs(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for subjects, error in (("0", QuorumError), ("{ hospital_9 = 1 }", SplitError)):
        sweep = SWEEP.replace("subjects = 1", f"subjects = {subjects}")
        folder = write_sweep(tmp_path / "s", sweep=sweep)
        assert main(sweep_words(folder, data=tiny_data)) == error.exit_status
        assert error.code in capsys.readouterr().err
        assert not (folder / "out").exists()


def test_variants_that_pretrain_alike_begin_with_the_weights_of_the_first(
    tiny_data: Path, tmp_path: Path
) -> None:
    pretrain = """
[axes.pretraining.mae.stages.pretrain]
task = { kind = "mae", block = 4 }
strategy = { kind = "fedavg" }
rounds = 1
steps_per_round = 2
training = { optimiser = { kind = "adamw", learning_rate = 5e-3 }, num_threads = 1 }
"""
    text = SWEEP.replace("seeds = [0, 1]", "seeds = [0]") + pretrain
    text = text.replace('baseline = { labels = "all" }\n', "")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("target"))
    folder = write_sweep(tmp_path / "s", sweep=text)
    assert main(sweep_words(folder, data=tiny_data)) == 0
    first, second = json.loads((folder / "out" / "sweep.json").read_text())["runs"]
    assert (first["pretrained_by"], second["pretrained_by"]) == ("", "few/mae/seed-0")
    assert first["pretrain_steps"] == second["pretrain_steps"] == 2
    file = folder / "out" / first["folder"] / "checkpoints" / "pretrained.safetensors"
    plan = json.loads((folder / "out" / second["folder"] / "plan.json").read_text())
    assert plan["start"]["digest"] == digest_file(file)
    assert "few/mae/seed-0" in (folder / "out" / "sweep.html").read_text()
