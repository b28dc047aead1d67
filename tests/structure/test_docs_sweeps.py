"""The sweep in `docs/sweeps.md` is one, of the hippocampus study, and names every key."""

import re
import tomllib
from pathlib import Path

from fedvol.config.sweep import Sweep, Target, parse_sweep
from fedvol.simulation.sweep.design import sweep_runs

REPOSITORY = Path(__file__).resolve().parents[2]
(EXAMPLE,) = re.findall(
    r"```toml\n(.*?)```", (REPOSITORY / "docs" / "sweeps.md").read_text(), re.DOTALL
)


def test_the_example_is_a_sweep_of_a_study() -> None:
    study = REPOSITORY / "examples" / "hippocampus.toml"
    runs = sweep_runs(parse_sweep(EXAMPLE, where="docs"), study.read_text(), where=study)
    assert len(runs) == 12


def test_it_has_every_key() -> None:
    document = tomllib.loads(EXAMPLE)
    assert document.keys() == Sweep.model_fields.keys()
    assert document["target"].keys() == Target.model_fields.keys()
