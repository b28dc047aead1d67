"""The JSON part of each answer, as strict schemas; the server trusts nothing else."""

from typing import Annotated

from pydantic import Field

from fedvol.config.base import Section

Count = Annotated[int, Field(ge=0)]


class HealthReport(Section):
    """Whether a site would train now, and with how much."""

    software: str
    """fedvol's version at the site."""
    architecture: str
    """Digest of the network the site builds from the plan."""
    training_cases: Count
    """Labelled cases it may train on."""
    pretraining_cases: Count = 0
    """Cases it may pretrain on, labelled or not; 0 where the plan has no such stage."""
    validation_cases: Count | None
    """Cases that choose the best round; null: some, but fewer than the site lets be known."""
    test_cases: Count | None
    """Cases kept for the final figures; null as above. Such a site has no figures to give."""
    skipped: dict[str, Count]
    """Cases left out, by error code."""


class TrainReport(Section):
    """How a local training went."""

    cases: Count
    """Training cases at the site."""
    steps: Annotated[int, Field(ge=1)]
    """Gradient steps taken."""
    train_seconds: Annotated[float, Field(ge=0)]
    """Time spent training."""
    loss: float
    """Mean loss over the round's steps."""


class EvaluationReport(Section):
    """What the arrays of an evaluation mean; their layout is `statistics.MetricSums`."""

    keys: tuple[str, ...]
    """Metric names, in the arrays' row order."""
    suppressed: tuple[str, ...] = ()
    """Metric names withheld because a group behind them is small; their rows are NaN and 0."""
    cases: Count
    """Cases judged; 0 where every metric is suppressed, and then no arrays come along."""
    evaluate_seconds: Annotated[float, Field(ge=0)]
    """Time spent judging."""
