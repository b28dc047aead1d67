"""`sweep.json`, version 1: every run of a sweep and what each variant comes to over its seeds."""

from typing import Literal

from pydantic import Field

from fedvol.config.base import Section
from fedvol.report.result import StatResult


class SweepPoint(Section):
    """The federated model after some round of finetuning, on validation cases."""

    steps: int
    """Gradient steps of each site in finetuning so far."""
    value: float | None
    """The metric that chooses the round; null where no case defines it."""


class SweepRunResult(Section):
    """One variant with one seed."""

    variant: dict[str, str]
    """A value of each axis."""
    seed: int
    """The seed."""
    status: Literal["finished", "failed", "not run"]
    """Whether its figures are there."""
    reason: str = ""
    """Why it failed."""
    folder: str
    """Its output folder, under that of the sweep."""
    finetune_steps: int
    """Gradient steps of each site outside pretraining."""
    pretrain_steps: int
    """Gradient steps of each site in pretraining; none where it does not pretrain."""
    pretrained_by: str = ""
    """The run whose pretrained weights it begins with; empty where it pretrains itself, or not."""
    finetune_seconds: float | None = None
    """Seconds of training in finetuning, over all sites."""
    value: float | None = None
    """The sweep's metric on test cases, mean over cases."""
    best_pretext_loss: float | None = None
    """Lowest pretext loss on validation cases; null where it does not pretrain itself."""
    curve: list[SweepPoint] = Field(default_factory=list[SweepPoint])
    """Validation after each round of finetuning."""
    steps_to_target: int | None = None
    """Steps of each site in finetuning after which the target was reached; null: never, or there
    is none."""


class SweepDifference(Section):
    """A variant minus its baseline: same cases, mean over the seeds that both have."""

    value: float
    """Difference of the means."""
    low: float | None
    """Lower end of the 95 % bootstrap interval by subject; null with too few subjects."""
    high: float | None
    """Upper end."""
    lowest: float
    """Smallest difference of a seed."""
    highest: float
    """Largest difference of a seed."""
    seeds: int
    """Seeds behind it."""


class SweepVariantResult(Section):
    """One variant over its seeds."""

    variant: dict[str, str]
    """A value of each axis."""
    seeds: int
    """Seeds that finished."""
    stat: StatResult
    """The metric on test cases: each case's mean over seeds, with its interval by subject. It says
    how test subjects vary, not how seeds do."""
    lowest: float | None
    """The seed with the lowest mean over cases."""
    highest: float | None
    """The seed with the highest."""
    difference: SweepDifference | None = None
    """Against the baseline; null for a baseline itself, and where there is none."""
    reached: int = 0
    """Seeds that reached the target."""
    steps_to_target: float | None = None
    """Median over the seeds, of which those that never reached it count as the longest; null where
    that is one of them."""


class SweepTarget(Section):
    """The figure on validation cases to which steps are counted."""

    value: float
    """The figure."""
    share: float
    """What share it is of the reference's."""
    of: dict[str, str]
    """The reference."""


class SweepResult(Section):
    """A whole sweep."""

    schema_: Literal["fedvol.sweep/1"] = Field(default="fedvol.sweep/1", alias="schema")
    """Name and version of this schema (`schema` in the file)."""
    study: str
    """Name of the study that varies."""
    purpose: str
    """Its purpose."""
    metric: str
    """What is compared."""
    curve_metric: str
    """What the curves show."""
    test_cases: int
    """Test cases of all sites."""
    test_subjects: int
    """Subjects behind them."""
    sites: int
    """Sites."""
    seeds: list[int]
    """Seeds asked for."""
    axes: dict[str, list[str]]
    """Axes and their values."""
    baseline: dict[str, str]
    """What variants are compared with; empty for nothing."""
    target: SweepTarget | None = None
    """To what steps are counted; null where nothing says so, or the reference is not there yet."""
    runs: list[SweepRunResult]
    """Every run."""
    variants: list[SweepVariantResult]
    """Variants with a finished run."""
