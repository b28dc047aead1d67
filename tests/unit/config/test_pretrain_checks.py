"""A study whose pretraining cannot be is refused as a whole, at the key that has to change."""

import pytest
from pretraining import pretrained_study, pretrained_text

from fedvol.config.loading import parse_study
from fedvol.errors import StudyError


@pytest.mark.parametrize(
    ("task", "keys", "where", "what"),
    [
        ('kind = "mae"\nblock = 32', "", "stages[0].task.block", "no whole blocks"),
        ('kind = "mae_vit"', "", "network.kind", "unetr"),
        (
            'kind = "voco"\ngrid = [3, 1, 1]',
            "",
            "stages[0].task.grid[0]",
            "cannot be divided into 3 crops",
        ),
        (
            'kind = "rotation"',
            "patches = { size = [16, 16, 8], batch_size = 2 }",
            "stages[0].patches.size",
            "do not keep their shape",
        ),
        (
            'kind = "rotation"',
            "augmentation = {}",
            "stages[0].augmentation.mirror_axes",
            "mirrored",
        ),
        (
            'kind = "models_genesis"',
            "patches = { size = [15, 16, 16], batch_size = 2 }",
            "stages[0].patches.size[0]",
            "cannot be divided by 2",
        ),
    ],
)
def test_a_pretraining_that_cannot_be(task: str, keys: str, where: str, what: str) -> None:
    with pytest.raises(StudyError) as caught:
        pretrained_study(task=task, keys=keys)
    found = [one for one in caught.value.problems if one.where.startswith(where)]
    assert found
    assert any(what in f"{one.what} {one.fix}" for one in found)


@pytest.mark.parametrize(
    "task",
    [
        'kind = "volume_fusion"',
        'kind = "models_genesis"\nshuffle_probability = 0.0',
        'kind = "mae"\nblock = 4',
        'kind = "s3d"\nblock = 4',
        'kind = "voco"\ngrid = [2, 2, 1]',
        'kind = "rotation"',
    ],
)
def test_a_pretraining_that_can_be(task: str) -> None:
    study = pretrained_study(task=task)
    assert study.pretrain is not None
    assert study.finetune_index == 1


def test_a_start_without_a_pretraining_is_refused() -> None:
    text = pretrained_text(start='parts = "encoder"')
    head, _, rest = text.partition("[[stages]]")
    alone = head + "[[stages]]" + rest.split("[[stages]]")[1]
    with pytest.raises(StudyError, match="no pretrain stage before it"):
        parse_study(alone, where="x")


def test_heads_that_would_learn_alone_to_the_end_are_refused() -> None:
    with pytest.raises(StudyError, match="heads alone learn in 3 rounds"):
        pretrained_study(start="heads_first_rounds = 3")


@pytest.mark.parametrize(
    ("strategy", "keys"),
    [('kind = "fedbn"', ""), ('kind = "fedavg"', 'exchange = "all_but_norms"')],
)
def test_an_encoder_whose_norms_were_not_pretrained_does_not_stand_still(
    strategy: str, keys: str
) -> None:
    with pytest.raises(StudyError, match="norm layers stay at the sites in pretraining"):
        pretrained_study(strategy=strategy, keys=keys, start='frozen = "encoder"')


@pytest.mark.parametrize("exchange", ["encoder", "all_but_norms", "all_but_heads"])
def test_scaffold_travels_whole(exchange: str) -> None:
    with pytest.raises(StudyError, match="scaffold corrects every gradient"):
        pretrained_study(strategy='kind = "scaffold"', keys=f'exchange = "{exchange}"')
