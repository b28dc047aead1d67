"""Learning curves as SVG, drawn here and not in the reader's browser."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from fedvol.report.figures import MetricInfo, metric_info, metric_label, number, quantity
from fedvol.report.result import Metrics, StageResult
from fedvol.report.svg import Scale, figure_svg, nice_scale, path_data, round_ticks, spread, tag

MAX_NAMED_SITES = 8
"""With more sites than this their lines are drawn grey, without names."""

_WIDTH, _HEIGHT = 440, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 346, 24, 246
_MAX_DOTS = 30
_NAME_CHARACTERS = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve.

    Attributes:
        name: Site, or what the bold line stands for.
        values: One per round, None where there is no value.
        style: `all` for the bold line, `s0`... for a site, `many` among many sites.
    """

    name: str
    values: tuple[float | None, ...]
    style: str


def validation_chart(
    stage: StageResult, *, sites: Sequence[str], metric: str | None = None
) -> Markup:
    """A metric per round: all sites together and each alone.

    Args:
        stage: The stage.
        sites: Every site.
        metric: Key of the metric; None: the one that names the best round.
    """
    key = metric or stage.select_by
    info = metric_info(key)
    lines = [
        Line(
            name=site,
            values=tuple(
                _value(item.validation_by_site.get(site, {}), key) for item in stage.rounds
            ),
            style=_style(index, sites),
        )
        for index, site in enumerate(sites)
    ]
    together = Line(
        name="all sites",
        values=tuple(_value(item.validation, key) for item in stage.rounds),
        style="all",
    )
    bounds = (0.0, 1.0) if info.scale == "0 to 1" else (0.0, float("inf"))
    return _line_chart(
        [*lines, together],
        stage=stage,
        title=f"Validation {_metric_label(key, info)} after each round",
        desc=_validation_words(stage, key, info),
        bounds=bounds,
    )


def loss_chart(stage: StageResult, *, sites: Sequence[str]) -> Markup:
    """Mean training loss of each site per round."""
    lines = [
        Line(
            name=site,
            values=tuple(
                item.sites[site].loss if site in item.sites else None for item in stage.rounds
            ),
            style=_style(index, sites),
        )
        for index, site in enumerate(sites)
    ]
    last = ", ".join(
        f"{line.name} {number(given[-1], decimals=3)}"
        for line in lines
        if (given := [value for value in line.values if value is not None])
    )
    desc = f"Last value of each site: {last}." if last else "No site reported a loss."
    return _line_chart(
        lines,
        stage=stage,
        title="Training loss at each site (no unit)",
        desc=desc,
        bounds=(-float("inf"), float("inf")),
    )


def _line_chart(
    lines: Sequence[Line],
    *,
    stage: StageResult,
    title: str,
    desc: str,
    bounds: tuple[float, float],
) -> Markup:
    rounds = [item.index for item in stage.rounds]
    given = [value for line in lines for value in line.values if value is not None]
    if not given:
        empty = tag("text", "no values", x=_WIDTH / 2, y=_HEIGHT / 2, class_="tick middle")
        return figure_svg(
            [_heading(title), empty],
            width=_WIDTH,
            height=_HEIGHT,
            title=title,
            desc=desc,
            class_="chart",
        )
    y = nice_scale(given, start=_BOTTOM, end=_TOP + 10, bounds=bounds)
    x = _round_scale(rounds)
    body = [_heading(title), *_axes(x, y, last=rounds[-1])]
    if stage.best_round is not None and title.startswith("Validation"):
        body += _best_mark(x(stage.best_round), f"{stage.chosen_as}: round {stage.best_round}")
    for line in lines:
        body += _curve(line, rounds=rounds, x=x, y=y)
    body += _names(lines, x=x, y=y, rounds=rounds)
    return figure_svg(body, width=_WIDTH, height=_HEIGHT, title=title, desc=desc, class_="chart")


def _heading(title: str) -> Markup:
    return tag("text", escape(title), x=0, y=12, class_="heading")


def _round_scale(rounds: Sequence[int]) -> Scale:
    low, high = float(rounds[0]), float(rounds[-1])
    if low == high:
        low, high = low - 1, high + 1
    return Scale(low=low, high=high, start=_LEFT + 8, end=_RIGHT - 8, ticks=(), decimals=0)


def _axes(x: Scale, y: Scale, *, last: int) -> list[Markup]:
    lines = [
        tag("line", x1=_LEFT, x2=_RIGHT, y1=y(value), y2=y(value), class_="gridline")
        for value in y.ticks
    ]
    values = [
        tag(
            "text",
            number(value, decimals=y.decimals),
            x=_LEFT - 8,
            y=y(value) + 4,
            class_="tick end",
        )
        for value in y.ticks
    ]
    indices = [
        tag("text", str(index), x=x(index), y=_BOTTOM + 18, class_="tick middle")
        for index in round_ticks(last)
        if x.low <= index <= x.high
    ]
    name = tag("text", "round", x=(_LEFT + _RIGHT) / 2, y=_BOTTOM + 36, class_="tick middle")
    return [*lines, *values, *indices, name]


def _best_mark(at: float, words: str) -> list[Markup]:
    anchor = "end" if at > (_LEFT + _RIGHT) / 2 else "start"
    shift = -5 if anchor == "end" else 5
    return [
        tag("line", x1=at, x2=at, y1=_TOP + 4, y2=_BOTTOM, class_="best"),
        tag(
            "text",
            words,
            x=at + shift,
            y=_BOTTOM - 7,
            class_=f"besttext {anchor}",
        ),
    ]


def _curve(line: Line, *, rounds: Sequence[int], x: Scale, y: Scale) -> list[Markup]:
    runs: list[list[tuple[float, float]]] = [[]]
    for index, value in zip(rounds, line.values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((x(index), y(value)))
    body = [
        tag("path", d=path_data(run), class_=f"line {line.style}") for run in runs if len(run) > 1
    ]
    if len(rounds) <= _MAX_DOTS:
        radius = 3 if line.style == "all" else 1.8
        body += [
            tag("circle", cx=px, cy=py, r=radius, class_=f"dot {line.style}")
            for run in runs
            for px, py in run
        ]
    return body


def _names(lines: Sequence[Line], *, x: Scale, y: Scale, rounds: Sequence[int]) -> list[Markup]:
    ends: list[tuple[Line, float, float]] = []
    for line in lines:
        points = [
            (x(index), y(value))
            for index, value in zip(rounds, line.values, strict=True)
            if value is not None
        ]
        if points and line.style != "many":
            ends.append((line, *points[-1]))
    at = spread([end[2] for end in ends], gap=14, low=_TOP + 8, high=_BOTTOM)
    body: list[Markup] = []
    for (line, px, py), label_y in zip(ends, at, strict=True):
        body.append(
            tag(
                "path",
                d=path_data([(px + 4, py), (_RIGHT + 2, py), (_RIGHT + 10, label_y)]),
                class_=f"leader {line.style}",
            )
        )
        body.append(
            tag(
                "text",
                escape(_short(line.name)),
                x=_RIGHT + 14,
                y=label_y + 4,
                class_=f"name {line.style}",
            )
        )
    return body


def _validation_words(stage: StageResult, key: str, info: MetricInfo) -> str:
    given = [
        (item.index, value)
        for item in stage.rounds
        if (value := _value(item.validation, key)) is not None
    ]
    if not given:
        return "No round has a value for all sites together."
    first, last = given[0], given[-1]
    words = (
        f"All sites together: {quantity(first[1], metric=info)} after round {first[0]}, "
        f"{quantity(last[1], metric=info)} after round {last[0]}."
    )
    best = dict(given).get(stage.best_round) if stage.best_round is not None else None
    if best is None:
        return words
    value = quantity(best, metric=info)
    return f"{words} Round {stage.best_round} was {stage.chosen_as}, with {value}."


def _metric_label(key: str, info: MetricInfo) -> str:
    return f"{metric_label(key)} ({info.scale})"


def _value(metrics: Metrics, key: str) -> float | None:
    stat = metrics.get(key)
    return None if stat is None else stat.value


def _style(index: int, sites: Sequence[str]) -> str:
    return f"s{index}" if len(sites) <= MAX_NAMED_SITES else "many"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
