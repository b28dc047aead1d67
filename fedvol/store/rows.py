"""Between rows of the tables and the values of `records`."""

import json
from collections.abc import Sequence
from typing import cast

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from fedvol.errors import StoreError
from fedvol.federation import RoundState, RunState, SiteState, Stat
from fedvol.store.records import (
    CheckpointKind,
    CheckpointRecord,
    RoundKey,
    RoundRecord,
    RunRecord,
    SiteRound,
)
from fedvol.store.tables import CheckpointRow, RoundMetricRow, RoundRow, RunRow, SiteRoundRow
from fedvol.types import Digest, Json, RunId, SiteId


def find_run(session: Session, run: RunId) -> RunRow:
    """The row of a run, held against others until the transaction ends."""
    row = session.get(RunRow, run, with_for_update=True)
    if row is None:
        raise StoreError(f"run {run}", "there is no such run", "List the runs there are.")
    return row


def find_round(session: Session, key: RoundKey) -> RoundRow:
    """The row of an attempt, held against others until the transaction ends."""
    row = session.get(RoundRow, parts(key), with_for_update=True)
    if row is None:
        where = f"run {key.run} round {key.index} attempt {key.attempt}"
        raise StoreError(where, "there is no such attempt", "Open the round first.")
    return row


def parts(key: RoundKey) -> tuple[str, int, int, int]:
    """The primary key of an attempt."""
    return key.run, key.stage, key.index, key.attempt


def of_attempt(
    table: type[RoundRow | SiteRoundRow | RoundMetricRow], key: RoundKey
) -> tuple[ColumnElement[bool], ...]:
    """Conditions that pick the rows of one attempt."""
    return (
        table.run == key.run,
        table.stage == key.stage,
        table.round == key.index,
        table.attempt == key.attempt,
    )


def run_record(row: RunRow) -> RunRecord:
    """A run."""
    return RunRecord(
        id=RunId(row.id),
        study=row.study,
        plan_digest=Digest(row.plan_digest),
        plan_json=row.plan_json,
        state=RunState(row.state),
        reason=row.reason,
        created=row.created,
    )


def read_rounds(session: Session, wanted: Select[RoundRow]) -> tuple[RoundRecord, ...]:
    """Attempts with their sites and metrics, by stage, round and attempt."""
    ordered = wanted.order_by(RoundRow.run, RoundRow.stage, RoundRow.round, RoundRow.attempt)
    return tuple(_round_record(session, row) for row in session.scalars(ordered).all())


def _round_record(session: Session, row: RoundRow) -> RoundRecord:
    key = RoundKey(run=RunId(row.run), stage=row.stage, index=row.round, attempt=row.attempt)
    sites = session.scalars(
        select(SiteRoundRow).where(*of_attempt(SiteRoundRow, key)).order_by(SiteRoundRow.site)
    ).all()
    metrics = session.scalars(
        select(RoundMetricRow)
        .where(*of_attempt(RoundMetricRow, key))
        .order_by(RoundMetricRow.site, RoundMetricRow.metric)
    ).all()
    return RoundRecord(
        key=key,
        state=RoundState(row.state),
        base=Digest(row.base),
        aggregate=_digest(row.aggregate),
        arguments=cast("dict[str, Json]", json.loads(row.arguments_json)),
        known_weight=row.known_weight,
        started=row.started,
        ended=row.ended,
        seconds=row.seconds,
        reason=row.reason,
        sites=tuple(_site_round(site) for site in sites),
        metrics=_by_site(metrics),
    )


def _by_site(metrics: Sequence[RoundMetricRow]) -> dict[SiteId, dict[str, Stat]]:
    found: dict[SiteId, dict[str, Stat]] = {}
    for row in metrics:
        found.setdefault(SiteId(row.site), {})[row.metric] = Stat(
            value=row.value,
            n=row.n,
            low=row.low,
            high=row.high,
            undefined=row.undefined,
            penalised=row.penalised,
        )
    return found


def _site_round(row: SiteRoundRow) -> SiteRound:
    return SiteRound(
        site=SiteId(row.site),
        state=SiteState(row.state),
        code=row.code,
        title=row.title,
        cases=row.cases,
        steps=row.steps,
        train_seconds=row.train_seconds,
        loss=row.loss,
        bytes_up=row.bytes_up,
        bytes_down=row.bytes_down,
        weight=row.weight,
        blob=_digest(row.blob),
        asked=row.asked,
        answered=row.answered,
    )


def site_row(key: RoundKey, site: SiteRound) -> SiteRoundRow:
    """The row of one site in an attempt."""
    run, stage, index, attempt = parts(key)
    return SiteRoundRow(
        run=run,
        stage=stage,
        round=index,
        attempt=attempt,
        site=site.site,
        state=site.state.value,
        code=site.code,
        title=site.title,
        cases=site.cases,
        steps=site.steps,
        train_seconds=site.train_seconds,
        loss=site.loss,
        bytes_up=site.bytes_up,
        bytes_down=site.bytes_down,
        weight=site.weight,
        blob=site.blob,
        asked=site.asked,
        answered=site.answered,
    )


def metric_row(key: RoundKey, site: SiteId, metric: str, stat: Stat) -> RoundMetricRow:
    """The row of one validation figure."""
    run, stage, index, attempt = parts(key)
    return RoundMetricRow(
        run=run,
        stage=stage,
        round=index,
        attempt=attempt,
        site=site,
        metric=metric,
        value=stat.value,
        n=stat.n,
        low=stat.low,
        high=stat.high,
        undefined=stat.undefined,
        penalised=stat.penalised,
    )


def checkpoint_record(row: CheckpointRow) -> CheckpointRecord:
    """Weights that are kept."""
    return CheckpointRecord(
        stage=row.stage,
        round=row.round,
        kind=CheckpointKind(row.kind),
        digest=Digest(row.digest),
        name=row.name,
    )


def _digest(text: str | None) -> Digest | None:
    return Digest(text) if text is not None else None
