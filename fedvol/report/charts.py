"""Learning curves of a run."""

from collections.abc import Sequence

from markupsafe import Markup

from fedvol.report.figures import MetricInfo, metric_info, metric_label, number, quantity
from fedvol.report.line_chart import Line, line_chart
from fedvol.report.result import Metrics, RoundResult, StageResult

MAX_NAMED_SITES = 8
"""With more sites than this their lines are drawn grey, without names."""


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
    rounds = _measured(stage, key)
    lines = [
        Line(
            name=site,
            values=tuple(_value(item.validation_by_site.get(site, {}), key) for item in rounds),
            style=_style(index, sites),
        )
        for index, site in enumerate(sites)
    ]
    together = Line(
        name="all sites",
        values=tuple(_value(item.validation, key) for item in rounds),
        style="all",
    )
    bounds = (0.0, 1.0) if info.scale == "0 to 1" else (0.0, float("inf"))
    return line_chart(
        [*lines, together],
        places=[item.index for item in rounds],
        title=f"Validation {_metric_label(key, info)} after "
        + ("each round" if len(rounds) == len(stage.rounds) else "some rounds"),
        desc=_validation_words(stage, key, info),
        bounds=bounds,
        mark=(stage.best_round, f"{stage.chosen_as}: round {stage.best_round}")
        if stage.best_round is not None
        and rounds
        and rounds[0].index <= stage.best_round <= rounds[-1].index
        else None,
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
    return line_chart(
        lines,
        places=[item.index for item in stage.rounds],
        title="Training loss at each site (no unit)",
        desc=desc,
        bounds=(-float("inf"), float("inf")),
    )


def _measured(stage: StageResult, key: str) -> list[RoundResult]:
    """The rounds after which a metric was asked for; those in which nobody answered leave gaps."""
    return [item for item in stage.rounds if key in item.validation or not item.validation]


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
