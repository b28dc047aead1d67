"""A study whose pretraining cannot be is refused as a whole, at the key that has to change."""

import pytest
from pretraining import FUSION, pretrained_study, pretrained_text, started_text

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


@pytest.mark.parametrize(
    ("start", "terms", "where", "what"),
    [
        ("", 'digest = "ab"', "stages[0].start.weights.digest", ""),
        ('frozen = "all_but_heads"\nheads_first_rounds = 1', "",
         "stages[0].start.heads_first_rounds", "has no effect"),
        ('frozen = "all_but_heads"\nparts = "encoder"', "",
         "stages[0].start.frozen", "the encoder alone is taken over"),
    ],
)  # fmt: skip
def test_a_start_from_a_file_that_cannot_be(start: str, terms: str, where: str, what: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_study(started_text("w.safetensors", start=start, terms=terms), where="x")
    (told,) = caught.value.problems
    assert told.where == where
    assert what in told.what


def test_fedbn_leaves_nothing_that_could_stand_still() -> None:
    text = started_text("w.safetensors", start='frozen = "encoder"', strategy='kind = "fedbn"')
    with pytest.raises(StudyError, match="norm layers begin anew at each site"):
        parse_study(text, where="x")


def test_a_study_starts_from_a_stage_or_from_a_file() -> None:
    start = 'parts = "encoder"\nweights = { file = "w.safetensors" }'
    with pytest.raises(StudyError, match="cannot start from both"):
        pretrained_study(start=start)
    bare = started_text("w.safetensors").replace('file = "w.safetensors"', "")
    with pytest.raises(StudyError, match=r"weights\.file: this key is missing"):
        parse_study(bare, where="x")


@pytest.mark.parametrize(
    ("task", "keys", "what"),
    [
        ('kind = "rotation"', "", "rotation pretrains the encoder alone"),
        ('kind = "mae"\nblock = 4', 'exchange = "encoder"', "the encoder alone travels"),
    ],
)
def test_a_linear_probe_wants_a_decoder_that_was_pretrained(
    task: str, keys: str, what: str
) -> None:
    with pytest.raises(StudyError, match=what):
        pretrained_study(task=task, keys=keys, start='frozen = "all_but_heads"')


@pytest.mark.parametrize(
    ("task", "strategy", "keys", "what"),
    [
        ('kind = "rotation"', "fedavg", "probe = { every = 2 }", "rotation pretrains the encoder"),
        ('kind = "voco"', "fedavg", "probe = { every = 2 }", "voco pretrains the encoder"),
        (FUSION, "fedbn", "probe = { every = 2 }", "norm layers stay at the sites"),
        (FUSION, "fedavg", 'probe = { every = 2 }\nexchange = "encoder"', "encoder alone travels"),
        (FUSION, "fedavg", "probe = { every = 3 }", "would be after round 3, and the stage has 2"),
        (FUSION, "fedavg", "probe = {}", "would be after round 5, and the stage has 2"),
    ],
)
def test_a_probe_stands_on_what_was_pretrained_and_comes_in_time(
    task: str, strategy: str, keys: str, what: str
) -> None:
    with pytest.raises(StudyError, match=what):
        pretrained_study(task=task, strategy=f'kind = "{strategy}"', keys=keys)


def test_a_study_without_a_probe_is_the_study_it_was() -> None:
    """Its plan keeps its digest."""
    stages = pretrained_study().model_dump(mode="json")["stages"]
    assert "probe" not in stages[0]
    probed = pretrained_study(keys="probe = { every = 2 }").pretrain
    assert probed is not None
    assert [probed.is_probed(index) for index in (1, 2, 3, 4)] == [False, True, False, True]
