"""What a pretext network is worth on a site's validation cases, and whether it has collapsed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from fedvol.client.cases import SiteCase
from fedvol.client.judging import Judgement
from fedvol.config import Study
from fedvol.config.metrics import (
    FEATURE_VARIANCE,
    PRETEXT_BODY_LOSS,
    PRETEXT_LOSS,
    PRETEXT_TRIVIAL_LOSS,
    PROBE_DICE,
)
from fedvol.config.strategy import Pretrain
from fedvol.data.batch import UnlabelledBatch
from fedvol.data.case_store import StoredCase
from fedvol.data.unlabelled import draw_patches
from fedvol.errors import TimeLimitError
from fedvol.federation import EvaluationReport
from fedvol.plan import Plan, derive_seed, digest_json, pretext_metrics
from fedvol.ssl import (
    Pretext,
    PretextPicture,
    PretextScore,
    build_pretext,
    pretext_batch_size,
    pretext_patch,
)
from fedvol.ssl.features import squared_distances, unit_features
from fedvol.training import threads
from fedvol.types import CaseId, Digest, SiteId, Triple
from fedvol.validation import CaseMetrics, cases_behind, summarise

BATCHES_PER_CASE: Final = 4
"""Batches by which a validation case is judged; the same ones after every round."""


def judge_pretext(
    net: nn.Module,
    cases: Sequence[SiteCase],
    *,
    partners: Sequence[SiteCase],
    site: SiteId,
    plan: Plan,
    probe: Callable[[], Mapping[CaseId, CaseMetrics]] | None,
    resampling_key: Digest,
    device: torch.device,
    on_case: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> Judgement:
    """Judge a pretext network on a site's cases, on the same batches every time.

    Args:
        net: The network, on the device.
        cases: Cases to be judged on.
        partners: Cases from which partners may come, where the task takes pairs.
        site: Whose cases.
        plan: Its study seeds the batches, and has a pretrain stage.
        probe: Makes a linear probe, and gives its Dice of cases that have a label; None: there is
            no probe after this round.
        resampling_key: As for any judging; no replicates are drawn.
        device: Where the network is.
        on_case: Called with cases done and their total.
        should_stop: Asked before each case; if true, the judging is left.

    Raises:
        CaseStoreError: A case that is read for the first time is damaged.
        TimeLimitError: `should_stop` said so.
    """
    started, stage = time.monotonic(), plan.study.pretrain
    assert stage is not None
    task, batch_size = build_pretext(stage.task), pretext_batch_size(plan.study, stage)
    found: list[_Judged] = []
    with threads(stage.training.num_threads):
        for case in cases:
            if should_stop():
                raise TimeLimitError(
                    "evaluation",
                    f"the limit passed after {len(found)} of {len(cases)} cases",
                    "Give rounds more time, or let the site evaluate fewer cases.",
                )
            batches = validation_batches(
                case, partners=partners, study=plan.study, stage=stage, device=device
            )
            found.append(_judge_case(net, task, batches, num_own=batch_size))
            on_case(len(found), len(cases))
    probed = {} if probe is None else probe()
    rows = [
        _row(case, values, probed=probed.get(case.stored.case))
        for case, values in zip(cases, _values(found), strict=True)
    ]
    keys = pretext_metrics(stage, is_probed=probe is not None)
    return Judgement(
        sums=summarise(rows, keys=keys, replicates=0, key=resampling_key, site=site),
        report=EvaluationReport(
            keys=keys, cases=len(rows), evaluate_seconds=time.monotonic() - started
        ),
        behind=cases_behind(rows, keys=keys),
    )


def picture_case(
    net: nn.Module,
    case: SiteCase,
    *,
    partners: Sequence[SiteCase],
    study: Study,
    stage: Pretrain,
    device: torch.device,
) -> PretextPicture | None:
    """What a network makes of a case; None where the task has nothing to see.

    Of the batches that the case is judged by, the one with most to see in one axial slice: how
    well the network does plays no part.

    Args:
        net: The network, on the device.
        case: The case.
        partners: Cases from which a partner may come, this one among them.
        study: Seeds the batches.
        stage: The pretrain stage.
        device: Where the network is.

    Raises:
        CaseStoreError: A case that is read for the first time is damaged.
    """
    task = build_pretext(stage.task)
    with threads(stage.training.num_threads):
        batches = validation_batches(
            case, partners=partners, study=study, stage=stage, device=device
        )
        made = [task.picture(net, batch) for batch in batches]
    seen = [picture for picture in made if picture is not None]
    return max(seen, key=lambda picture: int(picture.changed_area.max()), default=None)


def validation_batches(
    case: SiteCase,
    *,
    partners: Sequence[SiteCase],
    study: Study,
    stage: Pretrain,
    device: torch.device,
) -> list[UnlabelledBatch]:
    """The batches a case is judged by; none where its task needs a partner and there is none.

    Drawn from the study's seed and the case alone: whoever trained, alone, pooled or together, with
    whatever schedule, is judged on the same patches.

    Args:
        case: The case.
        partners: Cases from which a partner may come, this one among them.
        study: Seeds the batches.
        stage: The pretrain stage.
        device: Where batches are put.

    Raises:
        CaseStoreError: A case that is read for the first time is damaged.
    """
    sources = [case.stored]
    if stage.task.needs_pairs:
        sources += _other(case, partners)
        if len(sources) == 1:
            return []
    root = digest_json(study.seed)
    return [
        _batch(
            sources,
            size=pretext_patch(study, stage),
            batch_size=pretext_batch_size(study, stage),
            seed=derive_seed(root, "pretext score", case.stored.case, n),
            device=device,
        )
        for n in range(BATCHES_PER_CASE)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One case: per batch its score and its patches' features; and which patches they are."""

    scores: Sequence[PretextScore]
    features: Sequence[Float64[np.ndarray, "patch feature"]]
    patches: frozenset[int]


def _judge_case(
    net: nn.Module, task: Pretext, batches: Sequence[UnlabelledBatch], *, num_own: int
) -> _Judged:
    """Judge a network by the batches of one case, whose own patches come first in each."""
    own = [batch.image[:num_own] for batch in batches]
    return _Judged(
        scores=[task.score(net, batch) for batch in batches],
        features=[unit_features(net, image) for image in own],
        patches=frozenset(hash(patch.cpu().numpy().tobytes()) for image in own for patch in image),
    )


def _values(judged: Sequence[_Judged]) -> Iterator[Mapping[str, float | None]]:
    """The figures of each case; None where no batch has one.

    Features of a single patch have no variance, however often it was drawn.
    """
    features = [batch for one in judged for batch in one.features]
    can_vary = len(set[int]().union(*(one.patches for one in judged))) > 1
    distances = iter(squared_distances(np.concatenate(features)) if can_vary else ())
    for one in judged:
        num_patches = sum(len(batch) for batch in one.features)
        yield {
            PRETEXT_LOSS: _mean([score.loss for score in one.scores]),
            PRETEXT_BODY_LOSS: _mean(
                [score.body_loss for score in one.scores if score.body_loss is not None]
            ),
            PRETEXT_TRIVIAL_LOSS: _mean([score.trivial_loss for score in one.scores]),
            FEATURE_VARIANCE: _mean(list(islice(distances, num_patches))),
        }


def _row(
    case: SiteCase, values: Mapping[str, float | None], *, probed: CaseMetrics | None
) -> CaseMetrics:
    """The figures of a case, with the Dice of a probe where there is one."""
    dice = None if probed is None else probed.values["dice"]
    is_penalised = probed is not None and "dice" in probed.penalised
    return CaseMetrics(
        case=case.stored.case,
        subject=case.subject,
        values={**values, PROBE_DICE: dice},
        penalised=frozenset({PROBE_DICE}) if is_penalised else frozenset(),
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _other(case: SiteCase, partners: Sequence[SiteCase]) -> list[StoredCase]:
    """The case after this one among its possible partners; none where there is no other.

    A name is a case's own within its site alone, and pooled cases are of several.
    """
    following = partners[(partners.index(case) + 1) % len(partners)]
    return [] if following == case else [following.stored]


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
