"""A line chart as SVG, drawn here and not in the reader's browser."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from fedvol.report.figures import number
from fedvol.report.svg import Scale, figure_svg, nice_scale, path_data, round_ticks, spread, tag

_WIDTH, _HEIGHT = 440, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 332, 24, 246
_MAX_DOTS = 30
_NAME_CHARACTERS = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve.

    Attributes:
        name: Site, or what the bold line stands for.
        values: One per place, None where there is no value.
        style: `all` for the bold line, `s0`... for a site, `many` among many sites.
    """

    name: str
    values: tuple[float | None, ...]
    style: str


def line_chart(
    lines: Sequence[Line],
    *,
    places: Sequence[int],
    title: str,
    desc: str,
    bounds: tuple[float, float],
    axis: str = "round",
    mark: tuple[int, str] | None = None,
) -> Markup:
    """Lines over whole numbers such as rounds; each named at its end.

    Args:
        lines: The lines.
        places: Where each of their values stands, rising.
        title: Heading of the chart.
        desc: What it shows, for whoever cannot see it.
        bounds: Values beyond which the vertical axis never goes.
        axis: Name of the horizontal axis.
        mark: A place that is marked, and its words.
    """
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
    x = _scale_of(places)
    body = [_heading(title), *_axes(x, y, last=places[-1], axis=axis)]
    if mark is not None:
        at = x(mark[0])
        body.append(tag("line", x1=at, x2=at, y1=_TOP + 4, y2=_BOTTOM, class_="best"))
    for line in lines:
        body += _curve(line, places=places, x=x, y=y)
    body += _names(lines, x=x, y=y, places=places)
    if mark is not None:  # above the lines, which its outline keeps off
        body.append(_mark_words(x(mark[0]), mark[1]))
    return figure_svg(body, width=_WIDTH, height=_HEIGHT, title=title, desc=desc, class_="chart")


def _heading(title: str) -> Markup:
    return tag("text", escape(title), x=0, y=12, class_="heading")


def _scale_of(places: Sequence[int]) -> Scale:
    low, high = float(places[0]), float(places[-1])
    if low == high:
        low, high = low - 1, high + 1
    return Scale(low=low, high=high, start=_LEFT + 8, end=_RIGHT - 8, ticks=(), decimals=0)


def _axes(x: Scale, y: Scale, *, last: int, axis: str) -> list[Markup]:
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
    name = tag("text", escape(axis), x=(_LEFT + _RIGHT) / 2, y=_BOTTOM + 36, class_="tick middle")
    return [*lines, *values, *indices, name]


def _mark_words(at: float, words: str) -> Markup:
    anchor = "end" if at > (_LEFT + _RIGHT) / 2 else "start"
    shift = -5 if anchor == "end" else 5
    return tag("text", words, x=at + shift, y=_BOTTOM - 7, class_=f"besttext {anchor}")


def _curve(line: Line, *, places: Sequence[int], x: Scale, y: Scale) -> list[Markup]:
    runs: list[list[tuple[float, float]]] = [[]]
    for index, value in zip(places, line.values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((x(index), y(value)))
    body = [
        tag("path", d=path_data(run), class_=f"line {line.style}") for run in runs if len(run) > 1
    ]
    if len(places) <= _MAX_DOTS:
        radius = 3 if line.style == "all" else 1.8
        body += [
            tag("circle", cx=px, cy=py, r=radius, class_=f"dot {line.style}")
            for run in runs
            for px, py in run
        ]
    return body


def _names(lines: Sequence[Line], *, x: Scale, y: Scale, places: Sequence[int]) -> list[Markup]:
    ends: list[tuple[Line, float, float]] = []
    for line in lines:
        points = [
            (x(index), y(value))
            for index, value in zip(places, line.values, strict=True)
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


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
