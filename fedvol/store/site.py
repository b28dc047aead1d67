"""`SiteStore`: what was put to a hospital, and what it answered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from sqlalchemy import Select, func, select

from fedvol.errors import AnsweredMeanwhileError, StoreError
from fedvol.store.database import open_engine, reading, writing
from fedvol.store.federation_records import Decision
from fedvol.store.schema import prepare_schema
from fedvol.store.site_tables import (
    SITE,
    ConsentRow,
    ProposalRow,
    ReceiptRow,
)
from fedvol.types import Digest, RunId

ProposalKind = Literal["run", "fingerprint"]
GONE = "gone"
"""State of a proposal that the server no longer names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldProposal:
    """A proposal as it arrived.

    Attributes:
        id: Its name.
        kind: A run, or a fingerprint job.
        run: Name of the run or job that it would become.
        digest: Digest of the plan, or of what is proposed to be counted.
        state: What the server says of it: open, started, paused, ended; or gone.
        signed: The server's signed bytes.
        signer: Public key in hexadecimal by which they were checked when they arrived.
        arrived: When, UTC.
    """

    id: str
    kind: ProposalKind
    run: RunId
    digest: Digest
    state: str
    signed: bytes
    signer: str
    arrived: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldConsent:
    """An answer to a proposal.

    Attributes:
        proposal: Which.
        decision: What.
        source: Name of the data source it is given for; empty of a refusal.
        by: Who gave it: a person, or the rule that did.
        reason: Their words; they stay at the site.
        code: Code of the rule that forbids it, where one does.
        at: When, UTC.
        signed: The answer under the site's signature.
        sequence: Its number at this site; 0 before it is kept.
        delivered: When the server answered to it; None: not yet.
        answer: Code for which the server did not take it; empty: taken.
    """

    proposal: str
    decision: Decision
    source: str
    by: str
    reason: str
    code: str
    at: datetime
    signed: bytes
    sequence: int = 0
    delivered: datetime | None = None
    answer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRecord:
    """A receipt that was checked.

    Attributes:
        run: The run.
        stage: Index of the stage.
        round: The round.
        attempt: Attempt at the round.
        answer: Digest of the site's signed answer; empty where the server does not know it.
        signed: The server's signed text.
    """

    run: RunId
    stage: int
    round: int
    attempt: int
    answer: str
    signed: str


class SiteStore:
    """Proposals and consents in one SQLite file; several processes may use it.

    Args:
        path: The file; made where absent.

    Raises:
        SchemaVersionError: The file was made by another version of fedvol.
        StoreError: The file is no database, is damaged or locked.
    """

    def __init__(self, path: Path) -> None:
        self._where = str(path)
        self._engine = open_engine(path)
        prepare_schema(self._engine, SITE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def add_proposal(self, record: HeldProposal) -> None:
        """Keep a proposal.

        Raises:
            StoreError: One of this name is kept already.
        """
        with writing(self._engine) as session:
            session.add(
                ProposalRow(
                    id=record.id,
                    kind=record.kind,
                    run=record.run,
                    digest=record.digest,
                    state=record.state,
                    signed=record.signed,
                    signer=record.signer,
                    arrived=record.arrived,
                )
            )

    def set_states(self, states: Mapping[str, str]) -> None:
        """Note what the server says of each proposal; one that it names no more is gone."""
        with writing(self._engine) as session:
            for row in session.scalars(select(ProposalRow)):
                row.state = states.get(row.id, GONE)

    def proposals(self) -> tuple[HeldProposal, ...]:
        """Every proposal, oldest first."""
        with reading(self._engine) as session:
            rows = session.scalars(
                select(ProposalRow).order_by(ProposalRow.arrived, ProposalRow.id)
            )
            return tuple(_proposal(row) for row in rows)

    def proposal(self, name: str) -> HeldProposal | None:
        """One proposal; None if there is none of this name."""
        with reading(self._engine) as session:
            row = session.get(ProposalRow, name)
            return None if row is None else _proposal(row)

    def of_run(self, run: RunId, *, digest: Digest) -> tuple[HeldProposal, ...]:
        """Proposals of this run with this very plan, oldest first."""
        with reading(self._engine) as session:
            rows = session.scalars(
                select(ProposalRow)
                .where(ProposalRow.run == run, ProposalRow.digest == digest)
                .order_by(ProposalRow.arrived, ProposalRow.id)
            )
            return tuple(_proposal(row) for row in rows)

    def add_consent(
        self,
        record: HeldConsent,
        *,
        after: int | None,
        before_kept: Callable[[], None] = lambda: None,
    ) -> int:
        """Keep an answer; its number.

        Args:
            record: The answer.
            after: Number of the answer that counted when this one was decided, 0 for none: where
                another counts by now, this one is not kept. None: it counts whatever was said.
            before_kept: Done when nothing else hinders; if it raises, the answer is not kept.

        Raises:
            AnsweredMeanwhileError: Another answer counts by now.
            StoreError: There is no such proposal.
        """
        with writing(self._engine) as session:
            if session.get(ProposalRow, record.proposal) is None:
                raise StoreError(
                    self._where, f"there is no proposal {record.proposal}", "See the list of them."
                )
            last = session.scalar(_last(record.proposal)) or 0
            if after not in (None, last):
                raise AnsweredMeanwhileError(
                    f"proposal {record.proposal}",
                    "somebody else, or a rule, answered it in this moment",
                    "See `fedvol consent list`, then decide again.",
                )
            row = ConsentRow(
                proposal=record.proposal,
                decision=record.decision.value,
                source=record.source,
                by=record.by,
                reason=record.reason,
                code=record.code,
                at=record.at,
                signed=record.signed,
                delivered=None,
                answer="",
            )
            session.add(row)
            session.flush()
            before_kept()
            return row.sequence

    def consents(self, proposal: str) -> tuple[HeldConsent, ...]:
        """Every answer to a proposal, oldest first."""
        with reading(self._engine) as session:
            rows = session.scalars(
                select(ConsentRow)
                .where(ConsentRow.proposal == proposal)
                .order_by(ConsentRow.sequence)
            )
            return tuple(_consent(row) for row in rows)

    def consent(self, proposal: str) -> HeldConsent | None:
        """The answer that counts; None if there is none yet."""
        with reading(self._engine) as session:
            row = session.scalar(
                select(ConsentRow).where(ConsentRow.sequence == _last(proposal).scalar_subquery())
            )
            return None if row is None else _consent(row)

    def undelivered(self) -> tuple[HeldConsent, ...]:
        """Answers that the server has not taken yet, oldest first."""
        with reading(self._engine) as session:
            rows = session.scalars(
                select(ConsentRow)
                .where(ConsentRow.delivered.is_(None))
                .order_by(ConsentRow.sequence)
            )
            return tuple(_consent(row) for row in rows)

    def mark_delivered(self, sequence: int, *, at: datetime, answer: str = "") -> None:
        """Note that the server took an answer, or for which code it did not."""
        with writing(self._engine) as session:
            row = session.get(ConsentRow, sequence)
            if row is not None:
                row.delivered, row.answer = at, answer

    def mark_undelivered(self, sequence: int) -> None:
        """Note that the server does not know an answer any more, which it had taken."""
        with writing(self._engine) as session:
            row = session.get(ConsentRow, sequence)
            if row is not None:
                row.delivered = None

    def add_receipt(
        self, record: ReceiptRecord, *, before_kept: Callable[[], None] = lambda: None
    ) -> bool:
        """Keep a receipt; whether it is new.

        Args:
            record: The receipt.
            before_kept: Done where it is new; if it raises, the receipt is not kept.
        """
        key = (record.run, record.stage, record.round, record.attempt)
        with writing(self._engine) as session:
            if session.get(ReceiptRow, key) is not None:
                return False
            session.add(
                ReceiptRow(
                    run=record.run,
                    stage=record.stage,
                    round=record.round,
                    attempt=record.attempt,
                    answer=record.answer,
                    signed=record.signed,
                )
            )
            session.flush()
            before_kept()
            return True

    def receipts(self) -> tuple[ReceiptRecord, ...]:
        """Every receipt, by run, stage, round and attempt."""
        with reading(self._engine) as session:
            rows = session.scalars(
                select(ReceiptRow).order_by(
                    ReceiptRow.run, ReceiptRow.stage, ReceiptRow.round, ReceiptRow.attempt
                )
            )
            return tuple(
                ReceiptRecord(
                    run=RunId(row.run),
                    stage=row.stage,
                    round=row.round,
                    attempt=row.attempt,
                    answer=row.answer,
                    signed=row.signed,
                )
                for row in rows
            )


def _last(proposal: str) -> Select[int]:
    return select(func.max(ConsentRow.sequence)).where(ConsentRow.proposal == proposal)


def _proposal(row: ProposalRow) -> HeldProposal:
    return HeldProposal(
        id=row.id,
        kind="fingerprint" if row.kind == "fingerprint" else "run",
        run=RunId(row.run),
        digest=Digest(row.digest),
        state=row.state,
        signed=row.signed,
        signer=row.signer,
        arrived=row.arrived,
    )


def _consent(row: ConsentRow) -> HeldConsent:
    return HeldConsent(
        proposal=row.proposal,
        decision=Decision(row.decision),
        source=row.source,
        by=row.by,
        reason=row.reason,
        code=row.code,
        at=row.at,
        signed=row.signed,
        sequence=row.sequence,
        delivered=row.delivered,
        answer=row.answer,
    )
