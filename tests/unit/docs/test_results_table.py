"""The table of a results page, for figures that a report withholds, too."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "docs" / "results" / "table.py"


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_table", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.75, 0.5, 1.0, "0.750 (0.500 to 1.000)"),
        (0.75, None, None, "0.750"),
        (0.0, 0.0, 0.0, "0.000 (0.000 to 0.000)"),
        (None, None, None, "–"),
    ],
)
def test_figure(
    table: ModuleType, value: float | None, low: float | None, high: float | None, words: str
) -> None:
    assert table.figure({"value": value, "low": low, "high": high}, 3) == words


def test_table(table: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, Any] = {"value": 0.5, "low": None, "high": None, "n": 3}
    overall = {key: {**known, "value": None} for key, _, _ in table.METRICS} | {"dice": known}
    result = {
        "sites": {
            "north": {"test_cases": 3, "test_subjects": 2},
            "south": {"test_cases": 3, "test_subjects": 1},
        },
        "evaluation": {
            "federated": {"overall": overall, "by_site": {"north": {"dice": known}}},
            "pooled": {"overall": overall, "by_site": {"south": {"dice": known}}},
        },
        "models": {key: {"steps": 40, "seconds": 90.0} for key in ("federated", "pooled")},
        "comparisons": {
            "pooled": [
                {"metric": key, "value": -0.25, "low": -0.5, "high": 0.125, "n": 3}
                for key, _, _ in table.METRICS
            ]
        },
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    table.main([f"fedavg={tmp_path}"])
    overall_rows, by_site, paired = capsys.readouterr().out.split("\n\n")
    assert "| fedavg | federated | 0.500 | – | – | – | 3 | 40 | 1.5 |" in overall_rows
    heads = "| Dice | model | north (n=3, 2 subjects) | south (n=3, 1 subject) |"
    assert by_site.splitlines()[0] == heads
    assert "| fedavg | pooled | – | 0.500 |" in by_site
    assert "| fedavg: pooled | -0.250 (-0.500 to +0.125) | -0.25 (-0.50 to +0.12) |" in paired
