import pytest
from pretraining import pretrained_study

from fedvol.config.data import FewLabels
from fedvol.config.stage_words import labels_words
from fedvol.report.settings import stage_words


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("", "pretrain by volume_fusion, FedAvg"),
        ('exchange = "all_but_norms"', "norm layers stay at their site"),
        ('exchange = "all_but_heads"', "heads stay at their site"),
        ('exchange = "encoder"', "stem and encoder alone travel"),
        ("probe = { every = 2, steps = 9 }", "labels read after every 2 rounds (heads trained on "),
        ("probe = { every = 1 }", "labels read after every round (heads trained on them for 60"),
    ],
)
def test_what_of_a_pretraining_travels_is_said(keys: str, words: str) -> None:
    stage = pretrained_study(keys=keys).pretrain
    assert stage is not None
    assert words in stage_words(stage)
    assert ("travel" in stage_words(stage)) == ("travel" in words)


def test_the_strategy_of_a_pretraining_is_said_with_its_values() -> None:
    stage = pretrained_study(strategy='kind = "scaffold"').pretrain
    assert stage is not None
    said = stage_words(stage)
    assert said.startswith(
        "pretrain by volume_fusion, SCAFFOLD (control variates of every trained tensor, weights"
    )


@pytest.mark.parametrize(
    ("subjects", "words"),
    [
        (0, "no training label is read: to this study your training cases are unlabelled"),
        (1, "labels of 1 training patient at most are read"),
        ({"a": 6, "b": 2}, "labels of 6 training patients at most are read; to this study"),
        ({"b": 2}, "no training label is read"),
    ],
)
def test_of_how_many_patients_labels_are_read_is_said(
    subjects: int | dict[str, int], words: str
) -> None:
    assert labels_words(FewLabels(subjects=subjects), site="a").startswith(words)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ('parts = "whole"', "from the pretrained network,"),
        ('parts = "encoder"', "from the pretrained encoder,"),
        ('parts = "encoder"\nfrozen = "encoder"', "encoder, which stays as it is,"),
        ('frozen = "encoder"', "network, encoder frozen,"),
        ('frozen = "all_but_heads"', "network, the heads alone learn,"),
        ("heads_first_rounds = 1", "heads alone in the first round,"),
        ("heads_first_rounds = 2", "heads alone in the first 2 rounds,"),
    ],
)
def test_how_finetuning_starts_is_said(start: str, words: str) -> None:
    assert words in stage_words(pretrained_study(start=start).finetune)


def test_nothing_is_said_of_a_start_that_is_not_there() -> None:
    assert "pretrained" not in stage_words(pretrained_study().finetune)
