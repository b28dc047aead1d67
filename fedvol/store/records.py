"""What the store hands out: plain values, free of any database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fedvol.federation import RoundState, RunState, SiteState, Stat
from fedvol.plan import Plan
from fedvol.types import Digest, Json, RunId, SiteId

ALL_SITES = SiteId("")
"""Stands for all sites together where metrics are kept by site."""


class CheckpointKind(StrEnum):
    """Why a checkpoint is kept."""

    INITIAL = "initial"
    """Weights the run starts from."""
    PRETRAINED = "pretrained"
    """What the pretrain stage gives away."""
    RELEASE = "release"
    """What the run gives away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run.

    Attributes:
        id: Its name.
        study: Name of its study.
        plan_digest: Digest of its plan.
        plan_json: The plan as canonical JSON.
        state: Where it stands.
        reason: Why it ended without being finished.
        created: When it was proposed, UTC.
    """

    id: RunId
    study: str
    plan_digest: Digest
    plan_json: str
    state: RunState
    reason: str
    created: datetime

    @property
    def plan(self) -> Plan:
        """The plan, whole."""
        return Plan.model_validate_json(self.plan_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundKey:
    """Names one attempt at one round.

    Attributes:
        run: The run.
        stage: Index of the stage.
        index: 1 for the first round.
        attempt: 1 for the first attempt.
    """

    run: RunId
    stage: int
    index: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRound:
    """What one site did in one attempt at a round.

    Attributes:
        site: Which site.
        state: Where it stands.
        code: Error code where it did not contribute.
        title: Fixed words that belong to the code.
        cases: Training cases behind its update.
        steps: Gradient steps.
        train_seconds: Seconds of training.
        loss: Mean training loss.
        bytes_up: Bytes that left the site.
        bytes_down: Bytes that reached it.
        weight: What its update counted by.
        blob: Digest of its update's file.
        asked: When it was asked, UTC; the store fills it in.
        answered: When its answer was recorded, UTC; the store fills it in.
    """

    site: SiteId
    state: SiteState
    code: str = ""
    title: str = ""
    cases: int | None = None
    steps: int | None = None
    train_seconds: float | None = None
    loss: float | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    weight: float | None = None
    blob: Digest | None = None
    asked: datetime | None = None
    answered: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One attempt at a round, with all that is known of it.

    Attributes:
        key: Run, stage, index and attempt.
        state: Where it stands.
        base: Digest of the global state it starts from.
        aggregate: Digest of the global state it made; None before that is written.
        started: When it was opened, UTC.
        ended: When it was closed or abandoned, UTC.
        seconds: How long it was worked on; time between a stop and a resumption is not counted.
        reason: Why it was abandoned.
        sites: Each site asked, sorted.
        metrics: Validation figures by site and metric; `ALL_SITES` for all together.
        arguments: What every site was told beside the global state, fixed when it was opened.
        known_weight: Weight of all known sites, silent ones included; None before it is summed.
    """

    key: RoundKey
    state: RoundState
    base: Digest
    aggregate: Digest | None
    started: datetime
    ended: datetime | None
    seconds: float
    reason: str
    sites: tuple[SiteRound, ...] = ()
    metrics: Mapping[SiteId, Mapping[str, Stat]] = field(
        default_factory=dict[SiteId, Mapping[str, Stat]]
    )
    arguments: Mapping[str, Json] = field(default_factory=dict[str, Json])
    known_weight: float | None = None

    @property
    def stage(self) -> int:
        """Index of the stage."""
        return self.key.stage

    @property
    def index(self) -> int:
        """1 for the first round."""
        return self.key.index

    @property
    def attempt(self) -> int:
        """1 for the first attempt."""
        return self.key.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """Weights that are kept.

    Attributes:
        stage: Index of the stage.
        round: Round they come from; 0 before any.
        kind: Why they are kept.
        digest: Digest of their file.
        name: Tells several of one kind and round apart; empty where there is one.
    """

    stage: int
    round: int
    kind: CheckpointKind
    digest: Digest
    name: str
