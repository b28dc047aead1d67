"""The pretrain stage at a site: its batches, and what a model is worth on validation cases."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from torch import nn

from fedvol.client.cases import SiteCase
from fedvol.client.judging import Judgement
from fedvol.config import Study
from fedvol.config.metrics import PRETEXT_BODY_LOSS, PRETEXT_LOSS
from fedvol.config.strategy import Pretrain
from fedvol.data.batch import UnlabelledBatch
from fedvol.data.case_store import StoredCase
from fedvol.data.unlabelled import UnlabelledSource, draw_patches
from fedvol.errors import TimeLimitError
from fedvol.federation import EvaluationReport
from fedvol.plan import Plan, derive_seed, pretext_metrics
from fedvol.ssl import PretextScore, build_pretext, pretext_batch_size, pretext_patch
from fedvol.training import threads
from fedvol.types import Digest, SiteId, Triple
from fedvol.validation import CaseMetrics, cases_behind, summarise

BATCHES_PER_CASE: Final = 4
"""Batches by which a validation case is judged; the same ones after every round."""


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


def judge_pretext(
    net: nn.Module,
    cases: Sequence[SiteCase],
    *,
    partners: Sequence[SiteCase],
    site: SiteId,
    plan: Plan,
    stage: Pretrain,
    resampling_key: Digest,
    device: torch.device,
    on_case: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> Judgement:
    """Judge a pretext network on a site's cases, by the losses of the same batches every time.

    Args:
        net: The network, on the device.
        cases: Cases to be judged on.
        partners: Cases from which partners may come, where the task takes pairs.
        site: Whose cases.
        plan: Seeds the batches.
        stage: The pretrain stage.
        resampling_key: As for any judging; no replicates are drawn.
        device: Where the network is.
        on_case: Called with cases done and their total.
        should_stop: Asked before each case; if true, the judging is left.

    Raises:
        CaseStoreError: A case that is read for the first time is damaged.
        TimeLimitError: `should_stop` said so.
    """
    started = time.monotonic()
    task = build_pretext(stage.task)
    size, batch_size = pretext_patch(plan.study, stage), pretext_batch_size(plan.study, stage)
    rows: list[CaseMetrics] = []
    with threads(stage.training.num_threads):
        for case in cases:
            if should_stop():
                raise TimeLimitError(
                    "evaluation",
                    f"the limit passed after {len(rows)} of {len(cases)} cases",
                    "Give rounds more time, or let the site evaluate fewer cases.",
                )
            sources = [case.stored]
            if stage.task.needs_pairs:
                sources += _other(case, partners)
            scores = [
                task.score(
                    net,
                    _batch(
                        sources,
                        size=size,
                        batch_size=batch_size,
                        seed=derive_seed(plan.digest, site, "pretext score", case.stored.case, n),
                        device=device,
                    ),
                )
                for n in range(BATCHES_PER_CASE if len(sources) > stage.task.needs_pairs else 0)
            ]
            rows.append(
                CaseMetrics(
                    case=case.stored.case,
                    subject=case.subject,
                    values=_values(scores),
                    penalised=frozenset(),
                )
            )
            on_case(len(rows), len(cases))
    keys = pretext_metrics(stage)
    return Judgement(
        sums=summarise(rows, keys=keys, replicates=0, key=resampling_key, site=site),
        report=EvaluationReport(
            keys=keys, cases=len(rows), evaluate_seconds=time.monotonic() - started
        ),
        behind=cases_behind(rows, keys=keys),
    )


def _values(scores: Sequence[PretextScore]) -> dict[str, float | None]:
    """Mean losses over the batches of a case; None where no batch has one."""
    body = [score.body_loss for score in scores if score.body_loss is not None]
    return {
        PRETEXT_LOSS: float(np.mean([score.loss for score in scores])) if scores else None,
        PRETEXT_BODY_LOSS: float(np.mean(body)) if body else None,
    }


def _other(case: SiteCase, partners: Sequence[SiteCase]) -> list[StoredCase]:
    """The case after this one among its possible partners; none where there is no other."""
    stored = [one.stored for one in partners]
    at = [one.case for one in stored].index(case.stored.case)
    following = stored[(at + 1) % len(stored)]
    return [] if following.case == case.stored.case else [following]


def _batch(
    sources: Sequence[StoredCase], *, size: Triple, batch_size: int, seed: int, device: torch.device
) -> UnlabelledBatch:
    """Patches of the first case, then as many of the second, where there is one."""
    cases = [case for case in sources for _ in range(batch_size)]
    images, inside = draw_patches(cases, size=size, rng=np.random.default_rng(seed))
    return UnlabelledBatch(
        image=images.to(device),
        seed=seed,
        inside=None if inside is None else inside.to(device).bool().unsqueeze(1),
    )
