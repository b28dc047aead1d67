"""The sweeps among the examples are sweeps of their study."""

from pathlib import Path

import pytest

from fedvol.config.loading import close_study
from fedvol.config.sweep import load_sweep
from fedvol.simulation.sweep.design import sweep_runs

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("name", "runs"), [("label_efficiency.toml", 18), ("label_efficiency_full.toml", 72)]
)
def test_every_variant_is_a_study_with_nothing_open(name: str, runs: int) -> None:
    study = EXAMPLES / "label_efficiency.toml"
    found = sweep_runs(load_sweep(EXAMPLES / "sweeps" / name), study.read_text(), where=study)
    assert len({run.name for run in found}) == len(found) == runs
    for run in found:
        assert close_study(run.study, {}, where=run.name).seed == run.seed
