"""What the page shows, worked out from a `Result` before any HTML exists."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedvol.config import Study
from fedvol.config.metrics import PRETEXT_TRIVIAL_LOSS, metric_name
from fedvol.config.model_names import FEDERATED
from fedvol.federation import TOOK_PART
from fedvol.plan import class_names
from fedvol.report.figures import (
    Figure,
    MetricInfo,
    count,
    figure,
    metric_info,
    metric_names,
    paired_interval,
    quantity,
)
from fedvol.report.result import (
    EvaluationResult,
    Metrics,
    Result,
    RoundResult,
    StageResult,
)
from fedvol.report.wording import (
    ModelWords,
    cases_words,
    code_title,
    difference_words,
    model_order,
    model_words,
    unequal_steps,
    verdict,
    verdict_words,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Federated beside one other model, on one metric.

    Attributes:
        model: The other model.
        words: What the interval shows.
        detail: Difference with interval and n, and unequal gradient steps, in one line.
        value: The difference with its unit.
        interval: Its interval.
        n: `n=41`, or `n=41 against 40`; empty where it was not recorded.
        verdict: `better`, `worse`, `none`, `higher`, `lower` or `open`.
    """

    model: ModelWords
    words: str
    detail: str
    value: str
    interval: str
    n: str
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The one number that matters.

    Attributes:
        metric: Its metric.
        figure: Value, interval, n.
        tested_on: Which cases it is about.
        comparisons: The same metric beside the other models.
    """

    metric: MetricInfo
    figure: Figure
    tested_on: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """One line of a table: a name and a figure per metric; `is_group` starts a new block."""

    name: str
    figures: tuple[Figure, ...]
    is_group: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """Sites x classes x metrics of one model."""

    model: ModelWords
    metrics: tuple[MetricInfo, ...]
    rows: tuple[FigureRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """One other model and its differences, one per metric; None where there is none."""

    model: ModelWords
    cells: tuple[Comparison | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedRow:
    """Cases of one site left out for one reason."""

    site: str
    code: str
    title: str
    num: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What went over one site's link and how it spent its time, over all rounds."""

    site: str
    contributed: int
    asked: int
    bytes_up: int | None
    bytes_down: int | None
    train_seconds: float | None


def primary_metric(result: Result) -> str:
    """The metric of the headline: what chose the best round, without its class."""
    evaluation = result.evaluation.get(FEDERATED)
    names = metric_names(evaluation.overall) if evaluation else ()
    chosen = next((metric_name(s.select_by) for s in result.stages if s.is_released), "dice")
    return chosen if chosen in names or not names else names[0]


def further_metrics(stage: StageResult) -> tuple[str, ...]:
    """What else was measured after each round of a pretraining, beside what chose the best."""
    if not stage.is_pretraining:
        return ()
    keys = {key for item in stage.rounds for key in item.validation}
    return metric_names(keys - {stage.select_by, PRETEXT_TRIVIAL_LOSS})


def trivial_words(stage: StageResult) -> str:
    """What the chosen round's pretext loss is beside that of an answer without looking."""
    chosen = next((one for one in stage.rounds if one.index == stage.best_round), None)
    stat = chosen.validation.get(stage.select_by) if chosen is not None else None
    other = chosen.validation.get(PRETEXT_TRIVIAL_LOSS) if chosen is not None else None
    if stat is None or other is None or stat.value is None or other.value is None:
        return ""
    info = metric_info(stage.select_by)
    value = quantity(other.value, metric=info)
    if stat.value < other.value:
        return f"The best answer that does not look at the input has a loss of {value} there."
    return (
        f"It learned nothing: its loss is not below {value}, that of the best answer that does "
        "not look at the input."
    )


def headline(result: Result) -> Headline | None:
    """The federated model's main figure; None if it was not judged."""
    evaluation = result.evaluation.get(FEDERATED)
    if evaluation is None:
        return None
    key = primary_metric(result)
    info = metric_info(key)
    return Headline(
        metric=info,
        figure=figure(evaluation.overall.get(key), metric=info),
        tested_on=tested_on(result),
        comparisons=tuple(
            compared
            for name in model_order(result.comparisons)
            if (compared := _comparison(result, name, key)) is not None
        ),
    )


def tested_on(result: Result) -> str:
    """Which cases the figures are about."""
    tested = [site for site in result.sites.values() if site.test_cases]
    cases = count(sum(site.test_cases for site in tested), "test case")
    num_subjects = sum(site.test_subjects for site in tested)
    subjects = f" ({count(num_subjects, 'subject')})" if num_subjects else ""
    sites = count(len(tested), "site")
    return f"{cases}{subjects} of {sites} that nobody trained or selected on"


def model_rows(
    result: Result,
) -> tuple[tuple[MetricInfo, ...], tuple[tuple[ModelWords, FigureRow], ...]]:
    """Every model on all sites' test cases."""
    metrics = _all_metrics(result)
    rows = tuple(
        (
            words,
            FigureRow(name=words.label, figures=_figures(result.evaluation[key].overall, metrics)),
        )
        for key in model_order(result.evaluation)
        for words in [model_words(key, result=result)]
    )
    return metrics, rows


def comparison_rows(
    result: Result,
) -> tuple[tuple[MetricInfo, ...], tuple[ComparisonRow, ...]]:
    """Federated minus each other model, on every metric compared."""
    seen = {item.metric for items in result.comparisons.values() for item in items}
    metrics = tuple(metric_info(key) for key in metric_names(seen))
    rows = tuple(
        ComparisonRow(
            model=model_words(name, result=result),
            cells=tuple(_comparison(result, name, info.key) for info in metrics),
        )
        for name in model_order(result.comparisons)
    )
    return metrics, rows


def model_tables(
    result: Result, *, sites: Sequence[str], classes: Sequence[str]
) -> tuple[ModelTable, ...]:
    """Sites x classes x metrics of every model, the federated one first."""
    metrics = _all_metrics(result)
    return tuple(
        ModelTable(
            model=model_words(key, result=result),
            metrics=metrics,
            rows=_table_rows(result.evaluation[key], metrics, sites, classes),
        )
        for key in model_order(result.evaluation)
    )


def class_order(result: Result, *, study: Study | None) -> tuple[str, ...]:
    """Classes by their value in the label volumes; by name where the plan is not at hand."""
    if study is not None:
        return class_names(study.data)
    return tuple(sorted({name for item in result.evaluation.values() for name in item.by_class}))


def skipped_rows(result: Result) -> tuple[SkippedRow, ...]:
    """Cases left out, by site and code, with the code's fixed words."""
    return tuple(
        SkippedRow(site=site, code=code, title=code_title(code), num=num)
        for site, codes in sorted(result.skipped.items())
        for code, num in sorted(codes.items())
    )


def traffic(result: Result, *, sites: Sequence[str]) -> tuple[Traffic, ...]:
    """Totals of each site over every round of every stage."""
    rounds = [item for stage in result.stages for item in stage.rounds]
    return tuple(_traffic(site, rounds) for site in sites)


def _traffic(site: str, rounds: Sequence[RoundResult]) -> Traffic:
    given = [item.sites[site] for item in rounds if site in item.sites]
    up = [item.bytes_up for item in given if item.bytes_up is not None]
    down = [item.bytes_down for item in given if item.bytes_down is not None]
    seconds = [item.train_seconds for item in given if item.train_seconds is not None]
    return Traffic(
        site=site,
        contributed=sum(item.state in TOOK_PART for item in given),
        asked=len(given),
        bytes_up=sum(up) if up else None,
        bytes_down=sum(down) if down else None,
        train_seconds=sum(seconds) if seconds else None,
    )


def _table_rows(
    evaluation: EvaluationResult,
    metrics: Sequence[MetricInfo],
    sites: Sequence[str],
    classes: Sequence[str],
) -> tuple[FigureRow, ...]:
    mean = "mean over classes" if len(classes) > 1 else "all classes"
    rows = [
        FigureRow(name="All sites", figures=(), is_group=True),
        FigureRow(name=mean, figures=_figures(evaluation.overall, metrics)),
    ]
    for name in classes:
        by_class = evaluation.by_class.get(name, {})
        given = {metric_name(key): stat for key, stat in by_class.items()}
        rows.append(FigureRow(name=name, figures=_figures(given, metrics)))
    for site in sites:
        by_site = evaluation.by_site.get(site, {})
        rows.append(FigureRow(name=site, figures=(), is_group=True))
        rows.append(FigureRow(name=mean, figures=_figures(by_site, metrics)))
        rows += [
            FigureRow(name=name, figures=_figures(by_site, metrics, suffix=f"/{name}"))
            for name in classes
        ]
    for group in sorted(evaluation.by_group):
        rows.append(FigureRow(name=group, figures=(), is_group=True))
        rows.append(FigureRow(name=mean, figures=_figures(evaluation.by_group[group], metrics)))
    return tuple(rows)


def _figures(
    metrics: Metrics, infos: Sequence[MetricInfo], *, suffix: str = ""
) -> tuple[Figure, ...]:
    return tuple(figure(metrics.get(info.key + suffix), metric=info) for info in infos)


def _all_metrics(result: Result) -> tuple[MetricInfo, ...]:
    merged: Metrics = {}
    for evaluation in result.evaluation.values():
        merged.update(evaluation.overall)
    return tuple(metric_info(key) for key in metric_names(merged))


def _comparison(result: Result, name: str, metric: str) -> Comparison | None:
    for item in result.comparisons.get(name, []):
        if item.metric == metric:
            info = metric_info(metric)
            return Comparison(
                model=model_words(name, result=result),
                words=verdict_words(item),
                detail="; ".join(
                    filter(None, (difference_words(item), unequal_steps(name, result=result)))
                ),
                value=quantity(item.value, metric=info, signed=True),
                interval=paired_interval(item, metric=info),
                n=cases_words(item),
                verdict=verdict(item),
            )
    return None
