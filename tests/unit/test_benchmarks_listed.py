"""Every benchmark is listed and documented, and one prints what `make bench` promises."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = {"__init__", "__main__", "listing", "masked_update", "measurement", "phantom_study"}
FILES = {path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")} - SHARED


def benchmarks(*options: str, env: Mapping[str, str] | None = None) -> str:
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(
        command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, env=env
    ).stdout.decode()


def test_every_benchmark_is_listed_and_documented() -> None:
    page = (REPOSITORY / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert set(benchmarks("--list").split()) == FILES
    assert not {name for name in FILES if f"`{name}`" not in page}


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(FILES))
def test_every_benchmark_still_runs(name: str) -> None:
    lines = [json.loads(line) for line in benchmarks("--size", "tiny", "--only", name).splitlines()]
    assert len(lines) == (3 if name == "gpu_step_ratio" else 1)
    for told in lines:
        if "skipped" in told:  # the one thing that a machine of any kind may lack
            assert "torch.compile does not work" in told["skipped"]
        else:
            assert told["value"] > 0


def test_a_benchmark_without_its_device_says_so() -> None:
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    (line,) = benchmarks("--only", "gpu_step_ratio", env=hidden).splitlines()
    assert json.loads(line) == {"name": "gpu_step_ratio", "skipped": "no CUDA device", "detail": {}}


def test_a_benchmark_prints_one_line_of_json() -> None:
    (line,) = benchmarks("--size", "tiny", "--only", "server_memory_ratio").splitlines()
    told = json.loads(line)
    assert set(told) == {"name", "value", "unit", "baseline", "detail"}
    assert told["name"] == "server_memory_ratio"
    assert isinstance(told["value"], float)
    assert told["value"] > 0
    assert told["detail"]["contributions"] == 64
