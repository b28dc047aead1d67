"""A folder in which a planned run has begun takes the same study only."""

from pathlib import Path

import pytest
from case_facts import OPEN_STUDY

from fedvol.config import load_open_study
from fedvol.errors import RunMismatchError
from fedvol.simulation.output import Output, keep_study


def test_what_is_left_open_is_part_of_the_study(tmp_path: Path) -> None:
    output = Output(folder=tmp_path / "out")
    same, other = tmp_path / "same.toml", tmp_path / "other.toml"
    same.write_text(OPEN_STUDY)
    network = 'network = { kind = "unet" }'
    other.write_text(OPEN_STUDY.replace(network, f"{network}\nplanning = {{ memory_gib = 4 }}"))
    for study in (other, same):  # before the run has begun it may be another
        keep_study(output, path=study, study=load_open_study(study))
    output.identity.write_text("{}")
    keep_study(output, path=same, study=load_open_study(same))
    with pytest.raises(RunMismatchError, match="other study"):
        keep_study(output, path=other, study=load_open_study(other))
    assert output.study.read_text() == OPEN_STUDY
