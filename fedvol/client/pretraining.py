"""The pretrain stage at a site: its batches."""

from collections.abc import Sequence

import torch

from fedvol.client.cases import SiteCase
from fedvol.config.strategy import Pretrain
from fedvol.data.unlabelled import UnlabelledSource
from fedvol.plan import Plan
from fedvol.ssl import pretext_batch_size, pretext_patch
from fedvol.types import SiteId


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
