"""A site judges a model on its own cases; only sums leave."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fedvol.client.cases import SiteCase
from fedvol.config.metrics import SegmentationMetric
from fedvol.federation import EvaluationReport, MetricSums
from fedvol.files import write_atomic
from fedvol.plan import Plan, class_names, metric_keys
from fedvol.privacy import JudgedCases
from fedvol.training import threads
from fedvol.types import Digest, RunId, SiteId
from fedvol.validation import (
    CaseMetrics,
    Predictor,
    SlidingWindow,
    cases_behind,
    evaluate_cases,
    summarise,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a model is worth on a site's cases.

    Attributes:
        sums: Sums over the cases.
        report: What they mean.
        behind: The cases and whose they are; never leaves the site.
    """

    sums: MetricSums
    report: EvaluationReport
    behind: JudgedCases


def judge(
    predictor: Predictor,
    cases: Sequence[SiteCase],
    *,
    site: SiteId,
    plan: Plan,
    metrics: Sequence[SegmentationMetric],
    replicates: int,
    resampling_key: Digest,
    rows: Path | None,
    on_case: Callable[[int, int], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> Judgement:
    """Judge a model on a site's cases.

    Args:
        predictor: From an image to class probabilities.
        cases: The site's cases of one split.
        site: Whose cases.
        plan: Names classes and evaluation settings.
        metrics: What to compute.
        replicates: Bootstrap replicates of subjects; 0 for none.
        resampling_key: Seed of the replicates; models judged under one can be compared in pairs.
        rows: Where the per-case rows are kept at the site; None for nowhere.
        on_case: Called with cases done and their total.
        should_stop: Asked before each case; if true, the judging is left.

    Raises:
        TimeLimitError: `should_stop` said so; no rows are written.
    """
    started = time.monotonic()
    classes = class_names(plan.study.data)
    with threads(plan.study.finetune.training.num_threads):
        judged = evaluate_cases(
            predictor,
            [(case.stored, case.subject) for case in cases],
            classes=classes,
            evaluation=plan.study.evaluation,
            metrics=metrics,
            on_case=on_case,
            should_stop=should_stop,
        )
    if rows is not None:
        _write_rows(rows, judged)
    keys = metric_keys(metrics, classes)
    sums = summarise(judged, keys=keys, replicates=replicates, key=resampling_key, site=site)
    report = EvaluationReport(
        keys=keys,
        cases=len(judged),
        evaluate_seconds=time.monotonic() - started,
    )
    return Judgement(sums=sums, report=report, behind=cases_behind(judged, keys=keys))


def rows_path(folder: Path, run: RunId, *, stage: int) -> Path:
    """Where the per-case rows of a stage's test stay, in an agent's own folder."""
    name = f"{run}.jsonl" if stage == 0 else f"{run}-stage-{stage}.jsonl"
    return folder / "evaluations" / name


def inference_window(plan: Plan, *, device: torch.device, mirror: bool) -> SlidingWindow:
    """How the plan's networks are applied to whole volumes.

    Args:
        plan: Names patch, overlap and mirror axes.
        device: Where the networks are.
        mirror: Whether predictions are averaged with those of the mirrored image.
    """
    evaluation = plan.study.evaluation
    return SlidingWindow(
        patch=plan.study.patches.size,
        overlap=evaluation.overlap,
        mirror_axes=plan.study.inference_mirror_axes if mirror else (),
        device=device,
    )


def _write_rows(path: Path, judged: Sequence[CaseMetrics]) -> None:
    lines = [
        json.dumps(
            {
                "case": row.case,
                "subject": row.subject,
                "values": dict(row.values),
                "penalised": sorted(row.penalised),
            },
            sort_keys=True,
        )
        for row in judged
    ]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
