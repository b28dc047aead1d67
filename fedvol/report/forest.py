"""Dot-and-interval charts: every model side by side, on all test cases and at each site."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedvol.report.figures import Figure, MetricInfo, figure, metric_info, number
from fedvol.report.result import EvaluationResult, Result, StatResult
from fedvol.report.svg import Scale, nice_scale, tag
from fedvol.report.wording import ModelWords, model_order, model_words

_HEIGHT = 26
_MIDDLE = _HEIGHT / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """One model in one panel.

    Attributes:
        model: Which.
        bar: Dot and interval as SVG; positions are percentages, so it fits any width.
        figure: The same in numbers.
    """

    model: ModelWords
    bar: Markup
    figure: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestPanel:
    """All models on one set of test cases."""

    title: str
    rows: tuple[ForestRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """One metric: panels on a common axis."""

    metric: MetricInfo
    axis: Markup
    panels: tuple[ForestPanel, ...]


def forest(result: Result, *, metric: str, sites: Sequence[str]) -> Forest:
    """The chart of one metric: first all sites' test cases, then each site's."""
    info = metric_info(metric)
    models = model_order(result.evaluation)
    groups: list[tuple[str, dict[str, StatResult | None]]] = [
        (
            "All sites' test cases",
            {key: result.evaluation[key].overall.get(metric) for key in models},
        )
    ]
    if len(sites) > 1:
        groups += [
            (
                f"Test cases of {site}",
                {key: _site_stat(result.evaluation[key], site, metric) for key in models},
            )
            for site in sites
        ]
    stats = [stat for _, group in groups for stat in group.values() if stat is not None]
    ends = [v for s in stats for v in (s.value, s.low, s.high) if v is not None]
    bounds = (0.0, 1.0) if info.scale == "0 to 1" else (0.0, float("inf"))
    scale = nice_scale(ends, start=2, end=98, bounds=bounds)
    panels = tuple(_panel(title, group, info, scale, result) for title, group in groups)
    return Forest(metric=info, axis=_axis(scale, info), panels=panels)


def _panel(
    title: str,
    group: dict[str, StatResult | None],
    info: MetricInfo,
    scale: Scale,
    result: Result,
) -> ForestPanel:
    reference = group.get("federated")
    rows: list[ForestRow] = []
    for key, stat in group.items():
        model = model_words(key, result=result)
        shown = figure(stat, metric=info)
        bar = _bar(
            stat,
            scale=scale,
            reference=None if reference is None else reference.value,
            title=f"{model.label}, {title}: {info.label} {shown.sentence}",
            style="fed" if model.is_federated else "other",
        )
        rows.append(ForestRow(model=model, bar=bar, figure=shown))
    return ForestPanel(title=title, rows=tuple(rows))


def _bar(
    stat: StatResult | None, *, scale: Scale, reference: float | None, title: str, style: str
) -> Markup:
    body = [tag("title", title)]
    body += [
        tag("line", x1=_at(scale, v), x2=_at(scale, v), y1=0, y2=_HEIGHT, class_="gridline")
        for v in scale.ticks
    ]
    if reference is not None:
        at = _at(scale, reference)
        body.append(tag("line", x1=at, x2=at, y1=0, y2=_HEIGHT, class_="best"))
    if stat is not None and stat.value is not None:
        if stat.low is not None and stat.high is not None:
            low, high = _at(scale, stat.low), _at(scale, stat.high)
            body.append(
                tag("line", x1=low, x2=high, y1=_MIDDLE, y2=_MIDDLE, class_=f"range {style}")
            )
            body += [
                tag("line", x1=at, x2=at, y1=_MIDDLE - 4, y2=_MIDDLE + 4, class_=f"range {style}")
                for at in (low, high)
            ]
        body.append(
            tag("circle", cx=_at(scale, stat.value), cy=_MIDDLE, r=4.5, class_=f"point {style}")
        )
    return tag(
        "svg",
        Markup("").join(body),
        class_="bar",
        role="img",
        width="100%",
        height=_HEIGHT,
        aria_label=title,
    )


def _axis(scale: Scale, info: MetricInfo) -> Markup:
    body = [tag("title", f"Axis: {info.label}, {info.scale}")]
    for value in scale.ticks:
        at = _at(scale, value)
        text = number(value, decimals=scale.decimals)
        body.append(tag("text", text, x=at, y=13, class_="tick middle"))
    return tag(
        "svg",
        Markup("").join(body),
        class_="bar",
        role="img",
        width="100%",
        height=18,
        aria_label=(
            f"Axis from {number(scale.low, decimals=scale.decimals)} "
            f"to {number(scale.high, decimals=scale.decimals)}"
        ),
    )


def _site_stat(evaluation: EvaluationResult, site: str, metric: str) -> StatResult | None:
    return evaluation.by_site.get(site, {}).get(metric)


def _at(scale: Scale, value: float) -> str:
    return f"{scale(value)}%"
