"""What the finished runs of a sweep say: read from what each left in its folder."""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedvol.client.judging import rows_path
from fedvol.config.metrics import METRICS, metric_name
from fedvol.config.sweep import Sweep, Variant
from fedvol.errors import StoreError
from fedvol.federation import MetricSums, difference, merge
from fedvol.plan import digest_json
from fedvol.report import Result, StageResult, StatResult, read_result
from fedvol.report.sweep_result import (
    SweepDifference,
    SweepPoint,
    SweepResult,
    SweepRunResult,
    SweepTarget,
    SweepVariantResult,
)
from fedvol.simulation.output import Output
from fedvol.simulation.session import FEDERATED
from fedvol.simulation.sweep.design import SweepRun, steps
from fedvol.types import CaseId, SiteId, SubjectId
from fedvol.validation import CaseMetrics, summarise

Cases = Mapping[SiteId, Sequence[CaseMetrics]]
"""Each site's test cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that came to its end.

    Attributes:
        run: The run.
        result: Its figures.
        cases: The federated model's figure of each test case.
    """

    run: SweepRun
    result: Result
    cases: Cases

    @property
    def finetune(self) -> StageResult:
        """Its finetuning."""
        return next(stage for stage in self.result.stages if stage.is_released)


def read_finished(run: SweepRun, output: Output) -> Finished | None:
    """The figures of a run; None where it did not come to its end.

    Raises:
        ResultFileError: Its `result.json` cannot be read.
        StoreError: A site's figures of its test cases cannot be read.
    """
    if not output.result.exists():
        return None
    result = read_result(output.result)
    if result.status != "finished":
        return None
    cases = {
        SiteId(site): _read_cases(
            rows_path(output.site(SiteId(site)), FEDERATED, stage=run.study.finetune_index)
        )
        for site, counted in result.sites.items()
        if counted.test_cases
    }
    return Finished(run=run, result=result, cases=cases)


def sweep_result(
    sweep: Sweep,
    runs: Sequence[SweepRun],
    *,
    finished: Mapping[str, Finished],
    failed: Mapping[str, str],
    folder_of: Callable[[SweepRun], str],
) -> SweepResult:
    """What all runs say together.

    Args:
        sweep: What varies.
        runs: Every run.
        finished: Those that came to their end, by name.
        failed: Why others failed, by name.
        folder_of: A run's folder, under that of the sweep.
    """
    target = target_of(sweep, finished.values())
    told = [
        run_result(
            run,
            finished.get(run.name),
            folder=folder_of(run),
            reason=failed.get(run.name, ""),
            metric=sweep.metric,
            target=target,
        )
        for run in runs
    ]
    evaluation = runs[0].study.evaluation
    sites = [one.result.sites.values() for one in finished.values()]
    return SweepResult(
        study=runs[0].study.name,
        purpose=runs[0].study.purpose,
        metric=sweep.metric,
        curve_metric=evaluation.select_by,
        test_cases=sum(site.test_cases for site in sites[0]) if sites else 0,
        test_subjects=sum(site.test_subjects for site in sites[0]) if sites else 0,
        sites=len(sites[0]) if sites else 0,
        seeds=list(sweep.seeds),
        axes={axis: list(values) for axis, values in sweep.axes.items()},
        baseline=dict(sweep.baseline),
        target=target,
        runs=told,
        variants=[
            _variant(
                variant,
                [run for run in told if run.variant == variant and run.status == "finished"],
                own=_by_seed(finished, variant),
                baseline=_by_seed(finished, sweep.baseline_of(variant)),
                metric=sweep.metric,
                replicates=evaluation.bootstrap_replicates,
            )
            for variant in sweep.variants()
            if _by_seed(finished, variant)
        ],
    )


def _by_seed(finished: Mapping[str, Finished], variant: Variant | None) -> dict[int, Finished]:
    return {one.run.seed: one for one in finished.values() if one.run.variant == variant}


def curve(finished: Finished) -> list[SweepPoint]:
    """Validation after each round of finetuning."""
    stage = finished.finetune
    each = finished.run.study.finetune.steps_per_round
    values = [one.validation.get(stage.select_by) for one in stage.rounds]
    return [
        SweepPoint(steps=one.index * each, value=stat.value if stat else None)
        for one, stat in zip(stage.rounds, values, strict=True)
    ]


def target_of(sweep: Sweep, finished: Iterable[Finished]) -> SweepTarget | None:
    """The figure to which steps are counted; None where there is none, or not yet."""
    if sweep.target is None:
        return None
    of = [one for one in finished if dict(one.run.variant) == sweep.target.of]
    known = [value for one in of if (value := curve(one)[-1].value) is not None]
    if not known:
        return None
    factor = sweep.target.share if _is_higher_better(of[0]) else 1 / sweep.target.share
    return SweepTarget(
        value=factor * statistics.fmean(known),
        share=sweep.target.share,
        of=dict(sweep.target.of),
    )


def run_result(
    run: SweepRun,
    finished: Finished | None,
    *,
    folder: str,
    reason: str,
    metric: str,
    target: SweepTarget | None,
) -> SweepRunResult:
    """What is told of one run.

    Args:
        run: The run.
        finished: Its figures, where it finished.
        folder: Its output folder, under that of the sweep.
        reason: Why it failed; empty where it did not.
        metric: The sweep's metric.
        target: To what steps are counted.
    """
    told = SweepRunResult(
        variant=dict(run.variant),
        seed=run.seed,
        status="failed" if reason else "not run",
        reason=reason,
        folder=folder,
        finetune_steps=steps(run.study, pretraining=False),
        pretrain_steps=run.pretrain_steps,
        pretrained_by=run.pretrained_by,
    )
    if finished is None:
        return told
    result, points = finished.result, curve(finished)
    reached = [
        point.steps for point in points if target and _reaches(point, target, finished=finished)
    ]
    return told.model_copy(
        update={
            "status": "finished",
            "reason": "",
            "finetune_seconds": _seconds(finished.finetune),
            "value": result.evaluation["federated"].overall[metric].value,
            "best_pretext_loss": _best_pretext_loss(result),
            "curve": points,
            "steps_to_target": min(reached, default=None),
        }
    )


def _variant(
    variant: Variant,
    runs: Sequence[SweepRunResult],
    *,
    own: Mapping[int, Finished],
    baseline: Mapping[int, Finished],
    metric: str,
    replicates: int,
) -> SweepVariantResult:
    """What a variant comes to over its seeds.

    Args:
        variant: The variant.
        runs: Its finished runs.
        own: The same with the figure of every case, by seed.
        baseline: Finished runs of its baseline, by seed; empty where it has none.
        metric: The sweep's metric.
        replicates: Bootstrap replicates of subjects.
    """
    stat = _sums(own.values(), metric=metric, replicates=replicates).stat(metric)
    values = [run.value for run in runs if run.value is not None]
    reached = [run.steps_to_target for run in runs if run.steps_to_target is not None]
    waits = [math.inf if run.steps_to_target is None else run.steps_to_target for run in runs]
    median = statistics.median(waits)
    paired = sorted(own.keys() & baseline.keys())
    return SweepVariantResult(
        variant=dict(variant),
        seeds=len(runs),
        stat=StatResult.of(stat),
        lowest=min(values, default=None),
        highest=max(values, default=None),
        difference=_difference(
            [own[seed] for seed in paired],
            [baseline[seed] for seed in paired],
            metric=metric,
            replicates=replicates,
        ),
        reached=len(reached),
        steps_to_target=None if math.isinf(median) else median,
    )


def _difference(
    own: Sequence[Finished], baseline: Sequence[Finished], *, metric: str, replicates: int
) -> SweepDifference | None:
    if not own:
        return None
    found = difference(
        _sums(own, metric=metric, replicates=replicates),
        _sums(baseline, metric=metric, replicates=replicates),
        key=metric,
    )
    pairs = [(_value(a, metric), _value(b, metric)) for a, b in zip(own, baseline, strict=True)]
    each = [a - b for a, b in pairs if a is not None and b is not None]
    if found.value is None or not each:
        return None
    return SweepDifference(
        value=found.value,
        low=found.low,
        high=found.high,
        lowest=min(each),
        highest=max(each),
        seeds=len(own),
    )


def _value(finished: Finished, metric: str) -> float | None:
    return finished.result.evaluation["federated"].overall[metric].value


def _sums(finished: Iterable[Finished], *, metric: str, replicates: int) -> MetricSums:
    """Sums over test cases of each case's mean over seeds; resamples shared by all variants."""
    runs = [one.cases for one in finished]
    key = digest_json(["sweep", metric])
    return merge(
        [
            summarise(
                _mean_over_seeds([run[site] for run in runs], metric=metric),
                keys=(metric,),
                replicates=replicates,
                key=key,
                site=site,
            )
            for site in sorted(runs[0])
        ]
    )


def _mean_over_seeds(runs: Sequence[Sequence[CaseMetrics]], *, metric: str) -> list[CaseMetrics]:
    by_case: dict[tuple[SubjectId, CaseId], list[CaseMetrics]] = {}
    for rows in runs:
        for row in rows:
            by_case.setdefault((row.subject, row.case), []).append(row)
    return [_mean_case(rows, metric=metric) for rows in by_case.values()]


def _mean_case(rows: Sequence[CaseMetrics], *, metric: str) -> CaseMetrics:
    known = [value for row in rows if (value := row.values[metric]) is not None]
    return replace(
        rows[0],
        values={metric: statistics.fmean(known) if known else None},
        penalised=frozenset().union(*(row.penalised for row in rows)) & {metric},
    )


def _seconds(stage: StageResult) -> float:
    """Seconds of training in a stage, over all sites."""
    return sum(site.train_seconds or 0.0 for one in stage.rounds for site in one.sites.values())


def _reaches(point: SweepPoint, target: SweepTarget, *, finished: Finished) -> bool:
    if point.value is None:
        return False
    if _is_higher_better(finished):
        return point.value >= target.value
    return point.value <= target.value


def _is_higher_better(finished: Finished) -> bool:
    return METRICS[metric_name(finished.finetune.select_by)].is_higher_better


def _best_pretext_loss(result: Result) -> float | None:
    for stage in result.stages:
        if stage.name == "pretrain":
            stats = [one.validation.get(stage.select_by) for one in stage.rounds]
            return min((s.value for s in stats if s and s.value is not None), default=None)
    return None


def _read_cases(path: Path) -> list[CaseMetrics]:
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise StoreError(
            str(path),
            "the figures of test cases cannot be read",
            "Remove the run's folder, and start the sweep again with --resume.",
        ) from error
    return [
        CaseMetrics(
            case=CaseId(line["case"]),
            subject=SubjectId(line["subject"]),
            values=line["values"],
            penalised=frozenset(line["penalised"]),
        )
        for line in lines
    ]
