"""`Measurement` or `Skipped`: one line of output; and how two things are timed side by side."""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).resolve().parent.parent

Size = Literal["tiny", "default", "large"]
"""`tiny` proves that a benchmark runs, `default` is for `make bench`, `large` takes minutes."""

Detail = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One figure.

    Attributes:
        name: The benchmark.
        value: The figure.
        unit: What it counts.
        baseline: What it is compared with, measured in the same run.
        detail: Sizes, and the figures that the value was made from.
    """

    name: str
    value: float
    unit: str
    baseline: str
    detail: Detail

    def line(self) -> str:
        """As one JSON object."""
        rounded = {
            key: _significant(value) if isinstance(value, float) else value
            for key, value in self.detail.items()
        }
        return json.dumps(asdict(self) | {"value": _significant(self.value), "detail": rounded})

    def words(self) -> str:
        """For people."""
        return f"{self.name}: {self.value:.3g} {self.unit}, beside: {self.baseline}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A figure that cannot be taken on this machine.

    Attributes:
        name: The benchmark.
        reason: What is missing.
        detail: Which of its figures, where it has several.
    """

    name: str
    reason: str
    detail: Detail

    def line(self) -> str:
        """As one JSON object."""
        return json.dumps({"name": self.name, "skipped": self.reason, "detail": dict(self.detail)})

    def words(self) -> str:
        """For people."""
        return f"{self.name}: skipped: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Seconds of two things, taken in turns.

    Attributes:
        ours: Seconds of each repeat.
        baseline: The same of what it is compared with.
        ours_cpu: Seconds in which this process computed, over all repeats.
        baseline_cpu: The same of what it is compared with.
    """

    ours: Sequence[float]
    baseline: Sequence[float]
    ours_cpu: float
    baseline_cpu: float

    @property
    def speedup(self) -> float:
        """Median over the repeats of baseline / ours: neighbours in time share the noise."""
        return statistics.median(self._ratios())

    def detail(self) -> dict[str, str | int | float]:
        """The seconds' medians, the range of the ratio, and the ratio of computing time.

        The last one hardly depends on what else the machine does, nor sees what waits.
        """
        return {
            "repeats": len(self.ours),
            "ours_s": statistics.median(self.ours),
            "baseline_s": statistics.median(self.baseline),
            "lowest_ratio": min(self._ratios()),
            "highest_ratio": max(self._ratios()),
            "cpu_ratio": self.baseline_cpu / self.ours_cpu,
        }

    def _ratios(self) -> list[float]:
        return [theirs / mine for mine, theirs in zip(self.ours, self.baseline, strict=True)]


def in_turns(ours: Callable[[], object], *, baseline: Callable[[], object], repeats: int) -> Paired:
    """Time two things alternately, each first in every other repeat.

    The caller has called each once before: what is slow only the first time is not measured.
    """
    mine, theirs = _Seconds(), _Seconds()
    pair = [(ours, mine), (baseline, theirs)]
    for repeat in range(repeats):
        for act, seconds in pair if repeat % 2 == 0 else reversed(pair):
            began, began_cpu = time.perf_counter(), time.process_time()
            act()
            seconds.wall.append(time.perf_counter() - began)
            seconds.cpu.append(time.process_time() - began_cpu)
    return Paired(
        ours=mine.wall,
        baseline=theirs.wall,
        ours_cpu=sum(mine.cpu),
        baseline_cpu=sum(theirs.cpu),
    )


class _Seconds:
    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []


def _significant(value: float) -> float:
    return float(f"{value:.4g}")
