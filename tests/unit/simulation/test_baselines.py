"""The study of a baseline can be written and read like any other."""

import pytest
from pretraining import pretrained_study
from tiny import tiny_text

from fedvol.config import Study
from fedvol.config.loading import parse_study
from fedvol.errors import UsageError
from fedvol.simulation.baselines import baseline_study


def study(**sections: str) -> Study:
    return parse_study(tiny_text(**sections), where="tiny.toml")


def test_as_many_steps_as_all_sites_and_time_for_them() -> None:
    whole = study()
    alone = baseline_study(whole, num_sites=3, num_pretraining=3)
    assert alone.finetune.steps_per_round == 3 * whole.finetune.steps_per_round
    assert alone.federation.train_limit_s == 3 * whole.federation.train_limit_s
    assert alone.federation.min_sites == 1


def test_limits_stay_within_the_schema() -> None:
    alone = baseline_study(study(), num_sites=1000, num_pretraining=1000)
    assert Study.model_validate_json(alone.model_dump_json()) == alone


def test_too_many_steps_for_a_round_are_told_before_training() -> None:
    with pytest.raises(UsageError, match="more rounds of fewer steps"):
        baseline_study(study(), num_sites=1_000_000, num_pretraining=1)


def test_a_pretraining_has_the_steps_of_all_sites_that_pretrain() -> None:
    whole = pretrained_study(strategy='kind = "fedadam"', keys='exchange = "all_but_heads"')
    alone = baseline_study(whole, num_sites=2, num_pretraining=5)
    assert whole.pretrain is not None
    assert alone.pretrain is not None
    assert alone.pretrain.steps_per_round == 5 * whole.pretrain.steps_per_round
    assert alone.finetune.steps_per_round == 2 * whole.finetune.steps_per_round
    assert alone.pretrain.strategy.kind == "fedavg"
    assert alone.pretrain.task == whole.pretrain.task
