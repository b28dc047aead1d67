"""A pretraining that learns nothing is stopped, and one that learns is not."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from pretraining import pretrained_text
from tiny import RUN, Events, fedvol_command, make_federation

from fedvol.client.cases import SiteCases
from fedvol.config.loading import parse_study
from fedvol.errors import FeaturesCollapsedError
from fedvol.federation import RunState
from fedvol.store import RunStore, open_engine
from fedvol.types import SiteId

MAE = 'kind = "mae"\nblock = 4'
ADAM = '{ kind = "adamw", learning_rate = 5e-3 }'
DECAY = '{ kind = "sgd", learning_rate = 1.0, momentum = 0.0, weight_decay = 1.0 }'
"""Each step leaves nothing of the weights: soon all are 0, and so is every feature."""


def text(*, optimiser: str = DECAY, keys: str = "collapse = { rounds = 2 }", steps: int = 3) -> str:
    """Four rounds of pretraining, of which a dead network does not see the last."""
    whole = pretrained_text(task=MAE, keys=keys)
    was, now = "rounds = 2\nsteps_per_round = 3", f"rounds = 4\nsteps_per_round = {steps}"
    assert was in whole
    assert ADAM in whole
    return whole.replace(was, now).replace(ADAM, optimiser, 1)


def test_the_command_stops_a_network_that_dies_and_says_what_to_do(
    tiny_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    (tmp_path / "study.toml").write_text(text())
    words = ["--data", tmp_path / "data", "--out", tmp_path / "out", "--device", "cpu"]
    ended = subprocess.run(
        fedvol_command("simulate", tmp_path / "study.toml", *words),
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == FeaturesCollapsedError.exit_status
    assert "FV-FED-014" in ended.stderr
    assert "smaller learning rate" in ended.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["status"] == "failed"
    assert "gives nearly the same for every patch" in result["reason"]
    pretrain = result["stages"][0]
    assert len(pretrain["rounds"]) < 4
    for one in pretrain["rounds"][-2:]:
        assert one["validation"]["feature_variance"]["value"] < 1e-4
    assert "Validation feature variance" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_that_was_stopped_so_ends_where_it_ended(
    tiny_cases: dict[SiteId, SiteCases], tmp_path: Path
) -> None:
    study = parse_study(text(), where="tiny.toml")
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    for _ in range(2):
        with pytest.raises(FeaturesCollapsedError, match=r"stage 1 round 2.*collapse\.rounds = 0"):
            federation.run()
        assert len(federation.rounds()) == 2
        engine = open_engine(tmp_path / "run.db")
        record = RunStore(engine).run(RUN)
        engine.dispose()
        assert record is not None
        assert record.state is RunState.FAILED


@pytest.mark.parametrize(
    ("optimiser", "keys", "steps"),
    [(DECAY, "collapse = { rounds = 0 }", 3), (ADAM, "collapse = { rounds = 1 }", 12)],
)
def test_it_goes_on_where_the_study_says_so_or_something_is_learned(
    optimiser: str, keys: str, steps: int, tiny_cases: dict[SiteId, SiteCases], tmp_path: Path
) -> None:
    study = parse_study(text(optimiser=optimiser, keys=keys, steps=steps), where="tiny.toml")
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    federation.observer = Events()
    federation.run()
    assert len(federation.rounds()) == 4 + 3
    told = federation.observer.named("pretraining.trivial")
    assert [one["stage"] for one in told] == ([0] if optimiser == DECAY else [])
