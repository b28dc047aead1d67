"""What a site says of a pretext network: losses, and how far the features of patches lie apart."""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace

import pytest
import torch
from pretraining import FUSION, pretrained_study
from tiny import CPU
from torch import nn

from fedvol.client import pretext_judging
from fedvol.client.cases import SiteCase, SiteCases
from fedvol.client.pretext_judging import judge_pretext, picture_case, validation_batches
from fedvol.config import Study
from fedvol.federation import MetricSums
from fedvol.simulation.federate import make_plan
from fedvol.ssl import build_pretext, initial_pretext_network
from fedvol.types import SiteId, SubjectId

SITE = SiteId("hospital_1")
MAE = 'kind = "mae"\nblock = 4'
ONE = "patches = { size = [16, 16, 16], batch_size = 1 }"


def network(study: Study) -> nn.Module:
    assert study.pretrain is not None
    return initial_pretext_network(study, study.pretrain)


def judged(net: nn.Module, *, study: Study, cases: SiteCases, site: SiteId = SITE) -> MetricSums:
    plan, _ = make_plan(study, sites=(site,))
    return judge_pretext(
        net,
        cases.validation,
        partners=(*cases.validation, *cases.train),
        site=site,
        plan=plan,
        probe=None,
        resampling_key=plan.digest,
        device=CPU,
        on_case=lambda done, total: None,
        should_stop=lambda: False,
    ).sums


def test_air_restored_everywhere_is_a_small_loss_and_a_large_one_on_the_body(
    tiny_cases: Mapping[SiteId, SiteCases],
) -> None:
    study = pretrained_study(task=MAE)
    net = network(study)
    with torch.no_grad():
        head = net.get_submodule("heads.0")
        head.get_parameter("weight").zero_()
        head.get_parameter("bias").fill_(-1.0)  # below the window
    sums = judged(net, study=study, cases=tiny_cases[SITE])
    over_all, body = sums.stat("pretext_loss"), sums.stat("pretext_body_loss")
    assert over_all.n == body.n == len(tiny_cases[SITE].validation)
    assert over_all.value is not None
    assert body.value is not None
    assert body.value > over_all.value > 0
    # One value for all voxels, and not the best one.
    trivial = sums.stat("pretext_trivial_loss").value
    assert trivial is not None
    assert over_all.value > trivial > 0


def test_a_task_that_restores_nothing_has_no_loss_on_the_body(
    tiny_cases: Mapping[SiteId, SiteCases],
) -> None:
    study = pretrained_study(task=FUSION)
    sums = judged(network(study), study=study, cases=tiny_cases[SITE])
    assert sums.keys == ("pretext_loss", "pretext_trivial_loss", "feature_variance")


def test_a_dead_network_has_no_feature_variance_and_an_untrained_one_has(
    tiny_cases: Mapping[SiteId, SiteCases],
) -> None:
    study = pretrained_study(task=MAE)
    net = network(study)
    before = judged(net, study=study, cases=tiny_cases[SITE]).stat("feature_variance")
    assert before.value is not None
    assert 0.01 < before.value < 1
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.zero_()
    after = judged(net, study=study, cases=tiny_cases[SITE]).stat("feature_variance")
    assert (after.value, after.n) == (0.0, before.n)


def test_one_patch_alone_has_no_feature_variance(
    tiny_cases: Mapping[SiteId, SiteCases], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a site with one volume of the patch's size would look collapsed."""
    everything = tiny_cases[SITE]
    lone = replace(everything, validation=everything.validation[:1])
    study = pretrained_study(task=MAE, keys=ONE)
    net = network(study)
    assert judged(net, study=study, cases=lone).stat("feature_variance").value is not None
    monkeypatch.setattr(pretext_judging, "BATCHES_PER_CASE", 1)
    found = judged(net, study=study, cases=lone)
    assert found.stat("pretext_loss").n == 1
    assert (found.stat("feature_variance").n, found.stat("feature_variance").undefined) == (0, 1)


def test_whoever_trained_for_however_long_is_judged_on_the_same_patches(
    tiny_cases: Mapping[SiteId, SiteCases],
) -> None:
    """Else alone, pooled and federated differ by their draws, not by what they learned."""
    study, cases = pretrained_study(task=MAE), tiny_cases[SITE]
    net = network(study)
    longer = study.model_copy(
        update={
            "stages": tuple(
                one.model_copy(update={"rounds": one.rounds + 5}) for one in study.stages
            )
        }
    )
    found = judged(net, study=study, cases=cases).stat("pretext_loss")
    assert (
        judged(net, study=longer, cases=cases, site=SiteId("pooled")).stat("pretext_loss") == found
    )
    reseeded = study.model_copy(update={"seed": study.seed + 1})
    assert judged(net, study=reseeded, cases=cases).stat("pretext_loss").value != found.value


@pytest.mark.parametrize("task", [MAE, FUSION])
def test_a_picture_is_of_the_patch_with_most_to_see_of_those_that_are_judged(
    task: str, tiny_cases: Mapping[SiteId, SiteCases]
) -> None:
    study, cases = pretrained_study(task=task), tiny_cases[SITE]
    net, stage = network(study), study.pretrain
    assert stage is not None
    case, partners = cases.validation[0], (*cases.validation, *cases.train)
    picture = picture_case(net, case, partners=partners, study=study, stage=stage, device=CPU)
    batches = validation_batches(case, partners=partners, study=study, stage=stage, device=CPU)
    every = [build_pretext(stage.task).picture(net, batch) for batch in batches]
    assert picture is not None
    areas = [one.changed_area.max().item() for one in every if one is not None]
    same = [one is not None and torch.equal(one.wanted, picture.wanted) for one in every]
    assert areas[same.index(True)] == max(areas) > min(areas)


def test_a_task_that_answers_no_voxels_has_no_picture(
    tiny_cases: Mapping[SiteId, SiteCases],
) -> None:
    study = pretrained_study(task='kind = "rotation"')
    stage, cases = study.pretrain, tiny_cases[SITE].validation
    assert stage is not None
    made = picture_case(
        network(study), cases[0], partners=cases, study=study, stage=stage, device=CPU
    )
    assert made is None


def test_pooled_cases_of_one_name_are_partners_to_each_other(
    tiny_cases: Mapping[SiteId, SiteCases],
) -> None:
    study = pretrained_study(task=FUSION)
    stage = study.pretrain
    assert stage is not None
    first = tiny_cases[SITE].train[0]
    twin = SiteCase(stored=copy(first.stored), subject=SubjectId("another/one"))
    for one in (first, twin):
        batches = validation_batches(
            one, partners=(first, twin), study=study, stage=stage, device=CPU
        )
        assert len(batches) == pretext_judging.BATCHES_PER_CASE
