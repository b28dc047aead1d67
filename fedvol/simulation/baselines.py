"""Baselines as studies of their own: one site alone, and all cases pooled at one site.

A baseline is a federation of one site whose rounds are as many times longer as the federation
has sites. So it takes the same number of gradient steps as all sites together, is validated as
often, released by the same rule, and can be resumed like any run. Where the federation pretrains,
it does so too, alone and with as many steps. It has no personalise stage:
the steps of that stage are further rounds of its own, rounded up to whole rounds.
"""

import math
from typing import TypeVar

from fedvol.config import Study
from fedvol.config.model_names import POOLED
from fedvol.config.strategy import LONGEST_WAIT_S, MOST_STEPS, FedAvg, Finetune, Pretrain
from fedvol.errors import UsageError
from fedvol.types import RunId, SiteId

_Stage = TypeVar("_Stage", Pretrain, Finetune)

POOLED_SITE = SiteId(POOLED)
"""Stands for all hospitals together where their cases are pooled."""


def baseline_study(study: Study, *, num_sites: int, num_pretraining: int) -> Study:
    """The study one site carries out alone with the gradient steps of the whole federation.

    Args:
        study: The federation's study.
        num_sites: Sites that finetune.
        num_pretraining: Sites that pretrain; those without labels are among them.

    Raises:
        UsageError: So many steps do not fit into a round.
    """
    stage, personal = study.finetune, study.personalise
    further = personal.rounds * personal.steps_per_round if personal is not None else 0
    rounds = stage.rounds + math.ceil(further / stage.steps_per_round)
    finetune = _alone(stage, num_sites=num_sites).model_copy(update={"rounds": rounds})
    pretrain = (
        () if study.pretrain is None else (_alone(study.pretrain, num_sites=num_pretraining),)
    )
    limits = study.federation
    alone = limits.model_copy(
        update={
            "min_sites": 1,
            "train_limit_s": min(LONGEST_WAIT_S, limits.train_limit_s * num_sites),
            "evaluate_limit_s": min(LONGEST_WAIT_S, limits.evaluate_limit_s * num_sites),
        }
    )
    return study.model_copy(update={"stages": (*pretrain, finetune), "federation": alone})


def _alone(stage: _Stage, *, num_sites: int) -> _Stage:
    """A stage for one site, with the steps of all."""
    if stage.steps_per_round * num_sites > MOST_STEPS:
        raise UsageError(
            "--baselines",
            f"{stage.steps_per_round} steps a round at each of {num_sites} sites are more than the "
            f"{MOST_STEPS} that one site may take in a round",
            "Split the stage into more rounds of fewer steps.",
        )
    return stage.model_copy(
        update={
            "strategy": FedAvg(kind="fedavg"),
            "steps_per_round": stage.steps_per_round * num_sites,
        }
    )


def local_run(site: SiteId) -> RunId:
    """Name of the run that trains at one site alone."""
    return RunId(f"local-{site}")
