"""What a site says of a pretext network: losses over the batches of its validation cases."""

from collections.abc import Mapping

import torch
from pretraining import FUSION, pretrained_study
from tiny import CPU
from torch import nn

from fedvol.client.cases import SiteCases
from fedvol.client.judging import Judgement
from fedvol.client.pretraining import judge_pretext
from fedvol.config import Study
from fedvol.plan import Plan
from fedvol.simulation.federate import make_plan
from fedvol.ssl import initial_pretext_network
from fedvol.types import SiteId

SITE = SiteId("hospital_1")
MAE = 'kind = "mae"\nblock = 4'


def judged(
    net: nn.Module, *, study: Study, cases: SiteCases, plan: Plan | None = None
) -> Judgement:
    stage = study.pretrain
    assert stage is not None
    found = plan or make_plan(study, sites=(SITE,))[0]
    return judge_pretext(
        net,
        cases.validation,
        partners=(*cases.validation, *cases.train),
        site=SITE,
        plan=found,
        stage=stage,
        resampling_key=found.digest,
        device=CPU,
        on_case=lambda done, total: None,
        should_stop=lambda: False,
    )


class Air(nn.Module):
    """Says of every voxel that it lies below the window."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.full_like(x, -1.0),)


def test_air_restored_everywhere_is_a_small_loss_and_a_large_one_on_the_body(
    tiny_cases: Mapping[SiteId, SiteCases],
) -> None:
    sums = judged(Air(), study=pretrained_study(task=MAE), cases=tiny_cases[SITE]).sums
    assert sums.keys == ("pretext_loss", "pretext_body_loss")
    over_all, body = sums.stat("pretext_loss"), sums.stat("pretext_body_loss")
    assert over_all.n == body.n == len(tiny_cases[SITE].validation)
    assert over_all.value is not None
    assert body.value is not None
    assert body.value > over_all.value > 0


def test_a_task_that_restores_nothing_has_no_loss_on_the_body(
    tiny_cases: Mapping[SiteId, SiteCases],
) -> None:
    study = pretrained_study(task=FUSION)
    stage = study.pretrain
    assert stage is not None
    net = initial_pretext_network(study, stage)
    sums = judged(net, study=study, cases=tiny_cases[SITE]).sums
    assert sums.keys == ("pretext_loss",)
