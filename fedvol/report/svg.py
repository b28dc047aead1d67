"""The few pieces every chart is drawn with: linear scales, round ticks, escaped elements."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values to positions along one axis.

    Attributes:
        low: Value at `start`.
        high: Value at `end`; larger than `low`.
        start: Position of `low`.
        end: Position of `high`.
        ticks: Values that get a line and a number.
        decimals: Places the ticks need.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    decimals: int

    def __call__(self, value: float) -> float:
        """Position of a value, rounded to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def nice_scale(
    values: Iterable[float],
    *,
    start: float,
    end: float,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    num_ticks: int = 5,
) -> Scale:
    """A scale whose ends and ticks are round numbers and that holds all finite values.

    Args:
        values: What must fit.
        start: Position of the lower end.
        end: Position of the upper end.
        bounds: Values beyond which the axis never goes, such as 0 and 1 for a share.
        num_ticks: About how many ticks.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-9:
        margin = max(abs(high) * 0.05, 0.05)
        low, high = max(low - margin, bounds[0]), min(high + margin, bounds[1])
    step = _round_step((high - low) / num_ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple(round(index * step, decimals) for index in range(first, last + 1))
    return Scale(low=ticks[0], high=ticks[-1], start=start, end=end, ticks=ticks, decimals=decimals)


def round_ticks(num_rounds: int, *, num_ticks: int = 6) -> tuple[int, ...]:
    """Whole rounds to number on an axis: 1, then multiples of a round step, at most the last."""
    step = max(1, int(_round_step(max(1, num_rounds) / num_ticks)))
    return (1, *(index for index in range(step, num_rounds + 1, step) if index > 1))


def tag(element: str, content: str | Markup = "", **attributes: str | float) -> Markup:
    """One element; attribute names lose a trailing `_` and turn other `_` into `-`."""
    given = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _plain(value))
        for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(element, given, content)


def figure_svg(
    body: Sequence[Markup], *, width: float, height: float, title: str, desc: str, class_: str
) -> Markup:
    """A whole picture with its text alternative."""
    return tag(
        "svg",
        Markup("").join([tag("title", escape(title)), tag("desc", escape(desc)), *body]),
        class_=class_,
        role="img",
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        width=width,
        height=height,
        aria_label=f"{title}. {desc}",
    )


def path_data(points: Sequence[tuple[float, float]]) -> str:
    """A path through the points."""
    return "M" + "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Positions close to the wanted ones, `gap` apart and between `low` and `high` if they fit."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [0.0] * len(wanted)
    at = low - gap
    for index in order:
        at = max(wanted[index], at + gap)
        placed[index] = at
    overflow = at - high
    ceiling = high
    if overflow > 0:
        for index in reversed(order):
            placed[index] = max(min(placed[index], ceiling), low)
            ceiling = placed[index] - gap
    return placed


def _round_step(step: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(step))
    for factor in (1, 2, 5, 10):
        if step <= factor * magnitude * (1 + 1e-9):
            return factor * magnitude
    return 10 * magnitude


def _plain(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.1f}".removesuffix(".0")
