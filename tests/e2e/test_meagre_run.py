"""A run of surface metrics alone, at hospitals with one test subject each: judged and shown."""

import json
import subprocess
from pathlib import Path

import pytest
from tiny import fedvol_command, tiny_text

from fedvol.report import load_pictures, read_result


@pytest.fixture(scope="module")
def meagre_out(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without Dice; the round is chosen by a distance, of which small is good."""
    folder = tmp_path_factory.mktemp("meagre")
    study = folder / "study.toml"
    study.write_text(
        tiny_text(
            rounds="rounds = 1",
            metrics='metrics = ["hd95_mm", "nsd"]\nselect_by = "hd95_mm"',
        )
    )
    words = ["simulate", study, "--data", tiny_data, "--out", folder / "out", "--device", "cpu"]
    ended = subprocess.run(
        fedvol_command(*words, "--baselines", "pooled"), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return folder / "out"


def test_cases_are_ranked_by_the_metric_that_chose_the_round(meagre_out: Path) -> None:
    values = [
        row["values"]["hd95_mm"]
        for path in (meagre_out / "sites").glob("*/evaluations/federated.jsonl")
        for row in map(json.loads, path.read_text().splitlines())
    ]
    shown = load_pictures(meagre_out / "pictures.npz")
    assert [picture.label for picture in shown] == ["best", "median", "worst"]
    assert shown[0].metric == f"HD95 {min(values):.2f}\u00a0mm"
    assert shown[2].metric == f"HD95 {max(values):.2f}\u00a0mm"


def test_models_without_an_interval_are_compared_all_the_same(meagre_out: Path) -> None:
    result = read_result(meagre_out / "result.json")
    assert all(site.test_subjects == 1 for site in result.sites.values())
    assert {found.metric for found in result.comparisons["pooled"]} >= {"hd95_mm", "nsd"}
    assert all((one.low, one.high) == (None, None) for one in result.comparisons["pooled"])
    page = (meagre_out / "report.html").read_text()
    assert "no interval (too few subjects" in page
    assert "No other model was trained" not in page
