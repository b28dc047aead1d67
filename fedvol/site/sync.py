"""`Sync`: the site asks the server for roster and proposals, and brings its answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol, final

from fedvol.audit import AuditSink
from fedvol.errors import FedvolError, MessageError, SignatureError, StoreError
from fedvol.identity import Roster, SiteStatus
from fedvol.site.consent import BY_RULE, Answering
from fedvol.site.folder import SiteFolder
from fedvol.site.policy import violations
from fedvol.site.proposals import Proposed, open_proposal, read_proposal
from fedvol.site.receipts import take_receipt
from fedvol.site.trust import held_roster, take_roster
from fedvol.store import HeldProposal, SiteStore
from fedvol.telemetry import Observer
from fedvol.types import Digest

if TYPE_CHECKING:
    from fedvol.transport.network.site_calls import Answer, Listed


class Server(Protocol):
    """What a site asks of the server; `SiteCalls` over the network."""

    def roster(self) -> bytes | None:
        """The newest roster's bytes."""
        ...

    def proposals(self) -> "tuple[Listed, ...]":
        """What is put to this site."""
        ...

    def proposal(self, name: str) -> bytes:
        """A proposal's signed bytes."""
        ...

    def consent(self, body: bytes) -> "Answer":
        """Bring an answer."""
        ...

    def receipts(self, run: str) -> tuple[str, ...]:
        """Signed words for this site's contributions to a run."""
        ...


_BEGUN = frozenset({"started", "paused", "ended"})
_RECEIPTS_EVERY = timedelta(minutes=10)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """How one look at the server went.

    Attributes:
        roster: Version of the roster that holds here; 0 before the first.
        is_active: Whether it lists this site as active.
        arrived: Proposals that are new.
        delivered: Answers that the server took.
    """

    roster: int
    is_active: bool
    arrived: int
    delivered: int


@final
class Sync:
    """Keeps a site's roster, proposals and answers in step with the server.

    A proposal that cannot be verified is told once and left out; it is looked at anew the next
    time.

    Args:
        folder: The site's folder.
        store: Its proposals and consents.
        server: Takes the calls.
        audit: Where new rosters and receipts are written down.
        observer: Hears of what is new.
        now: The time, UTC.
    """

    def __init__(
        self,
        folder: SiteFolder,
        store: SiteStore,
        server: Server,
        *,
        audit: AuditSink,
        observer: Observer,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._folder = folder
        self._store = store
        self._server = server
        self._audit = audit
        self._observer = observer
        self._now = now
        self._told: set[tuple[str, str]] = set()
        self._asked: dict[tuple[str, str], datetime] = {}

    def once(self) -> Synced:
        """Bring what was answered, look once, and bring what a rule answers to that.

        Answers go first and hinder nothing: a withdrawal waits for no roster and no proposal.

        Raises:
            LinkDownError: The server cannot be reached.
            NotAdmittedError: It does not let this site in.
            RosterError: Its roster is of another root, older, or does not hold.
            MessageError: It answers something else.
            StoreError: The site's folder cannot be written.
            AuditError: The audit log was changed, or cannot be written.
        """
        try:
            delivered = self.deliver()
        finally:
            done = self._look()
        if not done.is_active:
            return replace(done, delivered=delivered)
        return replace(done, delivered=delivered + self.deliver())

    def _look(self) -> Synced:
        roster = self._roster()
        site = self._folder.config().site
        entry = None if roster is None else next((s for s in roster.sites if s.site == site), None)
        is_active = entry is not None and entry.status is SiteStatus.ACTIVE
        if roster is None or not is_active:
            version = 0 if roster is None else roster.version
            return Synced(roster=version, is_active=False, arrived=0, delivered=0)
        arrived = self._proposals(roster, site=site)
        self._approve_by_rule()
        self._receipts(roster, site=site)
        return Synced(roster=roster.version, is_active=True, arrived=arrived, delivered=0)

    def deliver(self) -> int:
        """Bring every answer that the server has not heard; how many it took."""
        taken = 0
        for answer in self._store.undelivered():
            told = self._server.consent(answer.signed)
            # What the server refuses by name it would refuse again; a rush of calls it would not.
            if not told.is_taken and not told.code:
                raise MessageError(
                    f"answer to proposal {answer.proposal}",
                    f"the server answered {told.status}",
                    "It is brought again; if that does not help, compare the versions.",
                )
            self._store.mark_delivered(answer.sequence, at=self._now(), answer=told.code)
            taken += told.is_taken
            self._observer.event(
                "consent.delivered",
                proposal=answer.proposal,
                decision=answer.decision.value,
                code=told.code,
            )
        return taken

    def _roster(self) -> Roster | None:
        data = self._server.roster()
        if data is None:
            return held_roster(self._folder)
        roster, is_new = take_roster(self._folder, data, audit=self._audit, now=self._now())
        if is_new:
            self._observer.event("roster.accepted", version=roster.version)
        return roster

    def _proposals(self, roster: Roster, *, site: str) -> int:
        listed = self._server.proposals()
        known = {record.id for record in self._store.proposals()}
        arrived = 0
        for one in listed:
            if one.id in known:
                continue
            try:
                self._take(one, roster=roster, site=site)
                arrived += 1
            except StoreError:
                raise
            except FedvolError as error:
                if (one.id, error.code) not in self._told:
                    self._told.add((one.id, error.code))
                    self._observer.event(
                        "proposal.refused", proposal=one.id, code=error.code, what=error.what
                    )
        self._store.set_states({one.id: one.state for one in listed})
        self._bring_again({one.id: one.heard for one in listed})
        return arrived

    def _bring_again(self, heard: Mapping[str, str]) -> None:
        """A server that was restored from a backup does not know what it was told since."""
        for name, decision in heard.items():
            last = self._store.consent(name)
            if last is None or last.delivered is None or last.answer:
                continue
            if last.decision.value != decision:
                self._store.mark_undelivered(last.sequence)
                self._observer.event("consent.lost", proposal=name, decision=last.decision.value)

    def _receipts(self, roster: Roster, *, site: str) -> None:
        """Ask for receipts of runs that this site took part in: now and then, and at their end."""
        for record in self._store.proposals():
            key, now = (record.run, record.state), self._now()
            asked = self._asked.get(key)
            is_due = asked is None or (record.state != "ended" and now - asked >= _RECEIPTS_EVERY)
            if record.kind != "run" or record.state not in _BEGUN or not is_due:
                continue
            if not self._store.consents(record.id):
                continue
            self._asked[key] = now
            for text in self._server.receipts(record.run):
                try:
                    is_new = take_receipt(
                        self._store,
                        text,
                        audit=self._audit,
                        server=roster.server.identity,
                        run=record.run,
                        site=site,
                    )
                except (MessageError, SignatureError) as error:
                    self._observer.event(
                        "receipt.refused", run=record.run, code=error.code, what=error.what
                    )
                    continue
                if is_new:
                    self._observer.event("receipt.taken", run=record.run)

    def _take(self, listed: "Listed", *, roster: Roster, site: str) -> None:
        where = f"proposal {listed.id}"
        signed = self._server.proposal(listed.id)
        proposed = open_proposal(signed, server=roster.server.identity, site=site, where=where)
        kind = "fingerprint" if proposed.plan is None else "run"
        if (proposed.id, proposed.digest, kind) != (listed.id, listed.digest, listed.kind):
            raise MessageError(
                where, "it is another one than the server lists", "Ask the operator what it is."
            )
        self._store.add_proposal(
            HeldProposal(
                id=proposed.id,
                kind=kind,
                run=proposed.run,
                digest=Digest(listed.digest),
                state=listed.state,
                signed=signed,
                signer=roster.server.identity.hex,
                arrived=self._now(),
            )
        )
        self._observer.event(
            "proposal.arrived", proposal=proposed.id, kind=kind, study=proposed.study.name
        )

    def _approve_by_rule(self) -> None:
        config = self._folder.config()
        rule = config.auto_approve
        if not rule.enabled:
            return
        answering = Answering(folder=self._folder, store=self._store, key=self._folder.identity())
        for record in self._store.proposals():
            if record.state != "open" or self._store.consent(record.id) is not None:
                continue
            if self._folder.paused_file.exists():
                return  # whoever paused the site, or left, wants nothing new to begin
            try:
                proposed = read_proposal(record, site=config.site)
                if not _is_covered(
                    proposed, kind=record.kind, kinds=rule.kinds, studies=rule.studies
                ):
                    continue
                if violations(proposed.content, config):
                    continue  # a person looks at it
                answering.approve_by_rule(record, now=self._now())
            except FedvolError as error:
                self._observer.event(
                    "proposal.left", proposal=record.id, code=error.code, what=error.what
                )
                continue
            self._observer.event("proposal.approved", proposal=record.id, by=BY_RULE)


def _is_covered(
    proposed: Proposed, *, kind: str, kinds: tuple[str, ...], studies: tuple[str, ...]
) -> bool:
    return kind in kinds and proposed.study.name in studies
