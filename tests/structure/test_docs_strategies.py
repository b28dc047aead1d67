"""The page on strategies: every kind has a block that a study accepts."""

import re
from pathlib import Path
from typing import get_args

import pytest
from tiny import tiny_text

from fedvol.config import strategy as config
from fedvol.config.loading import parse_study

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STRATEGIES = [block for block in BLOCKS if block.startswith("[stages.strategy]")]
STAGES = [block for block in BLOCKS if block.startswith("[[stages]]")]


def kinds(union: object) -> set[str]:
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields["kind"].annotation)[0] for member in members}


@pytest.mark.parametrize("block", STRATEGIES, ids=lambda block: block.splitlines()[1])
def test_a_study_accepts_each_strategy(block: str) -> None:
    lines = block.removeprefix("[stages.strategy]\n")
    study = parse_study(tiny_text(strategy=lines), where="page")
    assert f'kind = "{study.finetune.strategy.kind}"' in lines


@pytest.mark.parametrize("block", STAGES, ids=lambda block: block.splitlines()[2])
def test_a_study_accepts_each_personal_stage(block: str) -> None:
    assert parse_study(tiny_text(more=f"\n{block}"), where="page").personalise is not None


def test_every_kind_has_a_block() -> None:
    shown = set(re.findall(r'kind = "(\w+)"', "".join(STRATEGIES)))
    assert shown == kinds(config.Strategy)
    methods = set(re.findall(r'method = { kind = "(\w+)"', "".join(STAGES)))
    assert methods == kinds(config.PersonalMethod)
    assert len(STRATEGIES) + len(STAGES) == len(BLOCKS)
