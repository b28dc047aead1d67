"""The pretrain stage at a site: its batches."""

from collections.abc import Sequence

import torch

from fedvol.client.cases import SiteCase
from fedvol.config import Study
from fedvol.config.strategy import Pretrain
from fedvol.data.unlabelled import UnlabelledSource
from fedvol.plan import Plan
from fedvol.ssl import pretext_batch_size, pretext_patch
from fedvol.types import SiteId


def fitting(cases: Sequence[SiteCase], study: Study) -> tuple[SiteCase, ...]:
    """The cases that a study's pretraining can take patches from.

    All, but for tasks to which padding would tell the answer (`needs_whole_patches`): these leave
    out what is smaller than the patch.
    """
    stage = study.pretrain
    if stage is None or not stage.task.needs_whole_patches:
        return tuple(cases)
    patch = pretext_patch(study, stage)
    return tuple(
        case
        for case in cases
        if all(side >= length for side, length in zip(case.stored.shape, patch, strict=True))
    )


def trainable(cases: Sequence[SiteCase], study: Study) -> tuple[SiteCase, ...]:
    """The same; none where the study does not pretrain, or its task needs more of them."""
    found = fitting(cases, study)
    if study.pretrain is None or (study.pretrain.task.needs_pairs and len(found) == 1):
        return ()
    return found


def pretext_source(
    plan: Plan,
    stage: int,
    cases: Sequence[SiteCase],
    *,
    site: SiteId,
    device: torch.device,
) -> UnlabelledSource:
    """Batches of a plan's pretrain stage at a site.

    Args:
        plan: The plan.
        stage: Index of the stage.
        cases: What the site pretrains on.
        site: Whose cases.
        device: Where batches are put.

    Raises:
        NoCasesError: There is no case, or a single one where the task blends two.
    """
    settings = plan.study.stages[stage]
    assert isinstance(settings, Pretrain)
    return UnlabelledSource(
        [case.stored for case in cases],
        size=pretext_patch(plan.study, settings),
        batch_size=pretext_batch_size(plan.study, settings),
        in_pairs=settings.task.needs_pairs,
        augmentation=settings.changes,
        plan=plan.digest,
        scope=(site, "pretext", stage),
        device=device,
    )
