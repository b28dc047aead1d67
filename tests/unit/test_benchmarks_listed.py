"""Every benchmark is listed and documented, and one prints what `make bench` promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = {"__init__", "__main__", "listing", "measurement", "phantom_study"}
FILES = {path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")} - SHARED


def benchmarks(*options: str) -> str:
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(
        command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE
    ).stdout.decode()


def test_every_benchmark_is_listed_and_documented() -> None:
    page = (REPOSITORY / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert set(benchmarks("--list").split()) == FILES
    assert not {name for name in FILES if f"`{name}`" not in page}


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(FILES))
def test_every_benchmark_still_runs(name: str) -> None:
    (line,) = benchmarks("--size", "tiny", "--only", name).splitlines()
    assert json.loads(line)["value"] > 0


def test_a_benchmark_prints_one_line_of_json() -> None:
    (line,) = benchmarks("--size", "tiny", "--only", "server_memory_ratio").splitlines()
    told = json.loads(line)
    assert set(told) == {"name", "value", "unit", "baseline", "detail"}
    assert told["name"] == "server_memory_ratio"
    assert isinstance(told["value"], float)
    assert told["value"] > 0
    assert told["detail"]["contributions"] == 64
