"""What the server asks for must be in the plan: its stages, and the rounds of each."""

from dataclasses import replace

import pytest
from hospital import SITE, plain_plan
from tiny import personalise, tiny_study

from fedvol.client.planned import require_in_plan
from fedvol.errors import PlanMismatchError, ReleaseRefusedError
from fedvol.federation import Action, Request
from fedvol.types import Digest, RunId

PLAN = plain_plan(tiny_study(more=personalise('kind = "finetune", parts = "head"')))
"""Three rounds of fine-tuning, two of personal models."""
FIRST = Request(
    run=RunId("r"),
    plan=PLAN.digest,
    stage=0,
    round=1,
    site=SITE,
    action=Action.FINETUNE,
    state={},
    arguments={},
    limit_s=1.0,
)


@pytest.mark.parametrize(
    ("action", "stage", "first", "last"),
    [
        (Action.FINETUNE, 0, 1, 3),
        (Action.PERSONALISE, 1, 1, 2),
        (Action.VALIDATE, 0, 0, 3),
        (Action.TEST, 1, 0, 2),
        (Action.NORMS, 0, 0, 3),
        (Action.HEALTH, 0, 0, 3),
    ],
)
def test_the_rounds_of_the_plan_and_no_other(
    action: Action, stage: int, first: int, last: int
) -> None:
    def ask(number: int) -> None:
        require_in_plan(replace(FIRST, action=action, stage=stage, round=number), plan=PLAN)

    for number in range(first, last + 1):
        ask(number)
    for number in (first - 1, last + 1, 1_000_000):
        with pytest.raises(ReleaseRefusedError, match=f"for round {number}"):
            ask(number)


@pytest.mark.parametrize("stage", [-1, 2])
def test_no_other_stage(stage: int) -> None:
    with pytest.raises(ReleaseRefusedError):
        require_in_plan(replace(FIRST, stage=stage), plan=PLAN)


def test_no_other_plan() -> None:
    with pytest.raises(PlanMismatchError):
        require_in_plan(replace(FIRST, plan=Digest("0" * 64)), plan=PLAN)
