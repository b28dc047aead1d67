"""What was proposed, agreed, wanted and confirmed: proposals, consents, run requests, receipts."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from fedvol.errors import ConsentRefusedError, ProposalUnknownError, RunRequestError
from fedvol.federation import RunState
from fedvol.store.database import reading, writing
from fedvol.store.federation_records import (
    AnswerRecord,
    ConsentRecord,
    ContributionKey,
    Decision,
    ProposalRecord,
    RunRequest,
    Wanted,
)
from fedvol.store.federation_tables import (
    AnswerRow,
    ConsentRow,
    ProposalRow,
    ReceiptRow,
    RunRequestRow,
)
from fedvol.store.tables import RunRow
from fedvol.types import Digest, RunId, SiteId

_FROM = {
    Wanted.STARTED: {Wanted.PROPOSED, Wanted.PAUSED, Wanted.STARTED},
    Wanted.PAUSED: {Wanted.STARTED, Wanted.PAUSED},
    Wanted.STOPPED: {Wanted.PROPOSED, Wanted.STARTED, Wanted.PAUSED, Wanted.STOPPED},
    Wanted.ENDED: {Wanted.PROPOSED, Wanted.STARTED, Wanted.PAUSED, Wanted.STOPPED},
}


@final
class AgreementTables:
    """Proposals, consents, run requests, answers and receipts.

    Args:
        engine: From `open_engine`, with the tables there.
        now: Gives the time, UTC.
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    # --- proposals ----------------------------------------------------------------------------

    def propose(self, proposal: ProposalRecord) -> None:
        """Put something to sites.

        Raises:
            RunRequestError: There is a proposal of that name.
        """
        with writing(self._engine) as session:
            if session.get(ProposalRow, proposal.id) is not None:
                raise RunRequestError(
                    f"run {proposal.id}", "there is one of this name", "Choose another with --name."
                )
            session.add(
                ProposalRow(
                    id=proposal.id,
                    kind=proposal.kind,
                    run=proposal.run,
                    plan_digest=proposal.plan_digest,
                    sites=[*sorted(proposal.sites)],
                    content=proposal.content,
                    created=proposal.created,
                    created_by=proposal.created_by,
                )
            )
            session.flush()
            session.add(
                RunRequestRow(
                    run=proposal.run,
                    wanted=Wanted.PROPOSED.value,
                    by=proposal.created_by,
                    at=proposal.created,
                    queued=proposal.created,
                    reason="",
                )
            )

    def proposal(self, name: str) -> ProposalRecord | None:
        """One proposal."""
        with reading(self._engine) as session:
            row = session.get(ProposalRow, name)
            return _proposal(row) if row is not None else None

    def proposals(self) -> tuple[ProposalRecord, ...]:
        """Every proposal, oldest first."""
        wanted = select(ProposalRow).order_by(ProposalRow.created, ProposalRow.id)
        with reading(self._engine) as session:
            return tuple(_proposal(row) for row in session.scalars(wanted))

    # --- consents -----------------------------------------------------------------------------

    def consent(self, consent: ConsentRecord) -> None:
        """Record a site's word on a proposal.

        Raises:
            ProposalUnknownError: Nothing of this name was proposed to this site.
            ConsentRefusedError: A later word of the site is held, or the run has ended.
        """
        with writing(self._engine) as session:
            row = session.get(ProposalRow, consent.proposal)
            if row is None or consent.site not in row.sites:
                raise ProposalUnknownError(
                    f"proposal {consent.proposal}",
                    "nothing of this name was proposed to this site",
                    "Fetch the proposals again.",
                )
            held = _last(session, consent.proposal, consent.site)
            request = session.get(RunRequestRow, row.run)
            if held is not None and held.signed == consent.signed:
                return  # its acknowledgement was lost
            if held is not None and consent.said < held.said:
                raise _too_late(consent, "a later word of this site is held")
            if request is not None and request.wanted == Wanted.ENDED:
                raise _too_late(consent, "the run has ended")
            session.add(
                ConsentRow(
                    proposal=consent.proposal,
                    site=consent.site,
                    decision=consent.decision.value,
                    reason=consent.reason,
                    signed=consent.signed,
                    said=consent.said,
                    recorded=self._now(),
                )
            )

    def consents(self, proposal: str) -> dict[SiteId, ConsentRecord]:
        """The word that counts of each site that gave one, sorted."""
        wanted = (
            select(ConsentRow).where(ConsentRow.proposal == proposal).order_by(ConsentRow.number)
        )
        with reading(self._engine) as session:
            found = {SiteId(row.site): _consent(row) for row in session.scalars(wanted)}
        return dict(sorted(found.items()))

    def consenting(self, proposal: str) -> tuple[SiteId, ...]:
        """The sites that agree now, sorted."""
        held = self.consents(proposal)
        return tuple(site for site, one in held.items() if one.decision is Decision.APPROVE)

    # --- what operators want ------------------------------------------------------------------

    def request(self, run: RunId) -> RunRequest | None:
        """What is wanted of a run."""
        with reading(self._engine) as session:
            row = session.get(RunRequestRow, run)
            return _request(row) if row is not None else None

    def requests(self) -> tuple[RunRequest, ...]:
        """What is wanted of every run, in the order in which they were started."""
        wanted = select(RunRequestRow).order_by(RunRequestRow.queued, RunRequestRow.run)
        with reading(self._engine) as session:
            return tuple(_request(row) for row in session.scalars(wanted))

    def want(self, run: RunId, wanted: Wanted, *, by: str, reason: str = "") -> RunRequest:
        """Say what is wanted of a run.

        Args:
            run: Which.
            wanted: What.
            by: Which user says so.
            reason: Why.

        Raises:
            RunRequestError: There is no such run, or it cannot be as things stand.
        """
        with writing(self._engine) as session:
            row = _found_request(session, run)
            self._move(row, wanted, froms=_FROM[wanted], by=by, reason=reason)
            return _request(row)

    def resume(self, run: RunId, *, by: str, reason: str = "") -> RunRequest:
        """Have a run go on, even one that ended.

        A run that failed and ended waits in the same transaction to be taken: whoever finds one
        that is started and failed knows that it was cut off before it ended.

        Args:
            run: Which.
            by: Which user says so.
            reason: Why.

        Raises:
            RunRequestError: There is no such run, or it cannot be as things stand.
        """
        with writing(self._engine) as session:
            row = _found_request(session, run)
            has_ended = row.wanted == Wanted.ENDED
            froms = _FROM[Wanted.STARTED] | {Wanted.ENDED}
            self._move(row, Wanted.STARTED, froms=froms, by=by, reason=reason)
            record = session.get(RunRow, run, with_for_update=True) if has_ended else None
            if record is not None and record.state == RunState.FAILED:
                record.state, record.reason = RunState.PAUSED.value, f"{by} resumes it"
            return _request(row)

    def _move(
        self, row: RunRequestRow, wanted: Wanted, *, froms: Collection[Wanted], by: str, reason: str
    ) -> None:
        before, now = Wanted(row.wanted), self._now()
        if before not in froms:
            raise RunRequestError(
                f"run {row.run}",
                f"it is {before}, so it cannot become {wanted}",
                "Look at it: fedvol run show.",
            )
        if wanted is Wanted.STARTED and before is not Wanted.STARTED:
            row.queued = now
        row.wanted, row.by, row.at, row.reason = wanted.value, by, now, reason

    # --- receipts -----------------------------------------------------------------------------

    def put_answer(self, key: ContributionKey, answer: AnswerRecord) -> None:
        """Keep which signed answer brought a contribution; a later one takes its place."""
        with writing(self._engine) as session:
            session.merge(
                AnswerRow(
                    run=key.run,
                    stage=key.stage,
                    round=key.round,
                    site=key.site,
                    digest=answer.digest,
                    tensors=answer.tensors,
                )
            )

    def answer(self, key: ContributionKey) -> AnswerRecord | None:
        """Which signed answer brought a contribution."""
        with reading(self._engine) as session:
            row = session.get(AnswerRow, (key.run, key.stage, key.round, key.site))
            if row is None:
                return None
            tensors = Digest(row.tensors) if row.tensors else None
            return AnswerRecord(digest=Digest(row.digest), tensors=tensors)

    def put_receipt(self, key: ContributionKey, signed: bytes) -> None:
        """Keep a receipt; the first one stands."""
        with writing(self._engine) as session:
            if session.get(ReceiptRow, (key.run, key.stage, key.round, key.site)) is None:
                session.add(
                    ReceiptRow(
                        run=key.run, stage=key.stage, round=key.round, site=key.site, signed=signed
                    )
                )

    def receipts(self, run: RunId) -> dict[ContributionKey, bytes]:
        """Every receipt of a run, by stage, round and site."""
        wanted = (
            select(ReceiptRow)
            .where(ReceiptRow.run == run)
            .order_by(ReceiptRow.stage, ReceiptRow.round, ReceiptRow.site)
        )
        with reading(self._engine) as session:
            return {
                ContributionKey(
                    run=RunId(row.run), stage=row.stage, round=row.round, site=SiteId(row.site)
                ): row.signed
                for row in session.scalars(wanted)
            }


def _found_request(session: Session, run: RunId) -> RunRequestRow:
    row = session.get(RunRequestRow, run)
    if row is None:
        raise RunRequestError(f"run {run}", "there is no such run", "List them: fedvol run list.")
    return row


def _last(session: Session, proposal: str, site: SiteId) -> ConsentRow | None:
    wanted = select(ConsentRow).where(ConsentRow.proposal == proposal, ConsentRow.site == site)
    return session.scalars(wanted.order_by(ConsentRow.number.desc()).limit(1)).one_or_none()


def _too_late(consent: ConsentRecord, what: str) -> ConsentRefusedError:
    return ConsentRefusedError(
        f"proposal {consent.proposal}", what, "Look at what the site said last."
    )


def _proposal(row: ProposalRow) -> ProposalRecord:
    return ProposalRecord(
        id=row.id,
        kind=row.kind,
        run=RunId(row.run),
        plan_digest=Digest(row.plan_digest),
        sites=tuple(SiteId(str(site)) for site in row.sites),
        content=row.content,
        created=row.created,
        created_by=row.created_by,
    )


def _consent(row: ConsentRow) -> ConsentRecord:
    return ConsentRecord(
        proposal=row.proposal,
        site=SiteId(row.site),
        decision=Decision(row.decision),
        reason=row.reason,
        signed=row.signed,
        said=row.said,
    )


def _request(row: RunRequestRow) -> RunRequest:
    return RunRequest(
        run=RunId(row.run),
        wanted=Wanted(row.wanted),
        by=row.by,
        at=row.at,
        queued=row.queued,
        reason=row.reason,
    )
