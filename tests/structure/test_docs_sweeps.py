"""The sweep in `docs/sweeps.md` is one, of the hippocampus study."""

import re
from pathlib import Path

from fedvol.config.sweep import parse_sweep
from fedvol.simulation.sweep.design import sweep_runs

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_example_is_a_sweep_of_a_study() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (REPOSITORY / "docs/sweeps.md").read_text(), re.S)
    study = REPOSITORY / "examples" / "hippocampus.toml"
    runs = sweep_runs(parse_sweep(text, where="docs"), study.read_text(), where=study)
    assert len(runs) == 12
