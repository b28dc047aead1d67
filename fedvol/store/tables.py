"""The tables behind `RunStore`."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fedvol.store.database import UtcTime
from fedvol.store.schema import Component

_NAME = String(200)
_DIGEST = String(64)


class RunsBase(DeclarativeBase):
    """What the tables of runs have in common."""


class RunRow(RunsBase):
    """One run."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(_NAME, primary_key=True)
    study: Mapped[str] = mapped_column(_NAME)
    plan_digest: Mapped[str] = mapped_column(_DIGEST)
    plan_json: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(_NAME)
    reason: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcTime)


class RoundRow(RunsBase):
    """One attempt at a round."""

    __tablename__ = "rounds"
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    stage: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(_NAME)
    base: Mapped[str] = mapped_column(_DIGEST)
    aggregate: Mapped[str | None] = mapped_column(_DIGEST)
    arguments_json: Mapped[str] = mapped_column(Text)
    known_weight: Mapped[float | None]
    started: Mapped[datetime] = mapped_column(UtcTime)
    ended: Mapped[datetime | None] = mapped_column(UtcTime)
    seconds: Mapped[float]
    reason: Mapped[str] = mapped_column(Text)


def _attempt() -> ForeignKeyConstraint:
    key = ["run", "stage", "round", "attempt"]
    return ForeignKeyConstraint(key, [f"rounds.{name}" for name in key])


class SiteRoundRow(RunsBase):
    """One site in one attempt at a round."""

    __tablename__ = "site_rounds"
    __table_args__ = (_attempt(),)
    run: Mapped[str] = mapped_column(_NAME, primary_key=True)
    stage: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(_NAME, primary_key=True)
    state: Mapped[str] = mapped_column(_NAME)
    code: Mapped[str] = mapped_column(_NAME)
    title: Mapped[str] = mapped_column(Text)
    cases: Mapped[int | None]
    steps: Mapped[int | None]
    train_seconds: Mapped[float | None]
    loss: Mapped[float | None]
    bytes_up: Mapped[int | None] = mapped_column(BigInteger)
    bytes_down: Mapped[int | None] = mapped_column(BigInteger)
    weight: Mapped[float | None]
    blob: Mapped[str | None] = mapped_column(_DIGEST)
    asked: Mapped[datetime | None] = mapped_column(UtcTime)
    answered: Mapped[datetime | None] = mapped_column(UtcTime)


class RoundMetricRow(RunsBase):
    """One validation figure of one attempt at a round; `site` is empty for all sites together."""

    __tablename__ = "round_metrics"
    __table_args__ = (_attempt(),)
    run: Mapped[str] = mapped_column(_NAME, primary_key=True)
    stage: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(_NAME, primary_key=True)
    metric: Mapped[str] = mapped_column(_NAME, primary_key=True)
    value: Mapped[float | None]
    n: Mapped[int]
    low: Mapped[float | None]
    high: Mapped[float | None]
    undefined: Mapped[int]
    penalised: Mapped[int]


class CheckpointRow(RunsBase):
    """Weights that are kept."""

    __tablename__ = "checkpoints"
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    stage: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(_NAME, primary_key=True)
    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    digest: Mapped[str] = mapped_column(_DIGEST)


class EvaluationRow(RunsBase):
    """One model judged on one site's test cases: sums and replicates, as safetensors bytes."""

    __tablename__ = "evaluations"
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    model: Mapped[str] = mapped_column(_NAME, primary_key=True)
    site: Mapped[str] = mapped_column(_NAME, primary_key=True)
    keys_json: Mapped[str] = mapped_column(Text)
    arrays: Mapped[bytes] = mapped_column(LargeBinary)


RUNS = Component(name="runs", metadata=RunsBase.metadata, head="runs_0001", adopted=4)
