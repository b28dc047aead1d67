"""Figures of finished runs, as `result.json` holds them."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One model of one run, on test cases.

    Attributes:
        mean: Mean over sites of the mean Dice of a site's test cases.
        worst: Lowest of the sites' means.
        classes: Mean Dice of each class over all sites' test cases.
        validation: Dice of the federated model on all validation cases, in the round released.
        steps: Gradient steps behind it, over all sites.
        minutes: Minutes of training behind it.
    """

    mean: float
    worst: float
    classes: dict[str, float]
    validation: float
    steps: int
    minutes: float


def read_score(out: Path, *, model: str) -> Score:
    """The score of a model in a run's folder.

    Raises:
        KeyError: The run judged no such model.
        OSError: The run has no figures.
    """
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    judged = result["evaluation"][model]
    sites = [site["dice"]["value"] for site in judged["by_site"].values()]
    known = [value for value in sites if value is not None]
    of = result["models"][model]
    return Score(
        mean=statistics.fmean(known),
        worst=min(known),
        classes={
            name: figures["dice"]["value"]
            for name, figures in judged["by_class"].items()
            if figures["dice"]["value"] is not None
        },
        validation=_validation(result),
        steps=of["steps"],
        minutes=of["seconds"] / 60,
    )


def _validation(result: dict[str, Any]) -> float:
    stage = result["stages"][0]
    (taken,) = (one for one in stage["rounds"] if one["index"] == stage["best_round"])
    return taken["validation"]["dice"]["value"]


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure with each of several seeds."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value a seed."""
        return cls(tuple(values))

    def minus(self, other: "Spread") -> "Spread":
        """Differences, seed by seed."""
        return Spread(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))

    def plain(self) -> str:
        """Mean, lowest and highest."""
        return self._show(lambda value: f"{value:.3f}")

    def signed(self) -> str:
        """The same, of differences."""
        return self._show(lambda value: f"{value:+.3f}".replace("-", "−"))

    def _show(self, figure: Callable[[float], str]) -> str:
        if not self.values:
            return "–"
        mean = figure(statistics.fmean(self.values))
        if len(self.values) == 1:
            return mean
        return f"{mean} ({figure(min(self.values))} to {figure(max(self.values))})"
