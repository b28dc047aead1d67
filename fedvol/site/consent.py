"""A hospital's answers: signed, written to the audit log, and only then in force.

A withdrawal is in force first, and written down then.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from fedvol.audit import AuditLog, ConsentDecision
from fedvol.errors import ConsentMissingError, PolicyRefusedError, UsageError
from fedvol.identity import IdentityKey, SignedBody, Tag, sign_body, write_moment
from fedvol.plan import digest_bytes
from fedvol.site.folder import SiteFolder
from fedvol.site.pausing import pause
from fedvol.site.policy import violations
from fedvol.site.preparing import fitting_source
from fedvol.site.proposals import Proposed, read_proposal
from fedvol.store import Decision, HeldConsent, HeldProposal, SiteStore
from fedvol.store.site import GONE
from fedvol.types import Digest, RunId

BY_RULE = "rule auto_approve of site.toml"
OVER = frozenset({"ended", GONE})
"""States of a proposal of which nothing more comes."""
_PAST: Final[dict[Decision, Literal["approved", "refused", "withdrawn"]]] = {
    Decision.APPROVE: "approved",
    Decision.REFUSE: "refused",
    Decision.WITHDRAW: "withdrawn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Who answers, and where it is written.

    Attributes:
        folder: The site's folder; its `site.toml` is read for every answer but a withdrawal.
        store: Its proposals and consents.
        key: Its identity.
    """

    folder: SiteFolder
    store: SiteStore
    key: IdentityKey

    def find(self, name: str) -> tuple[HeldProposal, Proposed]:
        """A proposal by its name, or by the beginning of it.

        Raises:
            UsageError: There is none, or several begin so.
            SignatureError: Its record was changed.
            MessageError: It cannot be read by this version.
        """
        record = self.record(name)
        return record, read_proposal(record, site=self.folder.config().site)

    def record(self, name: str) -> HeldProposal:
        """The record of a proposal by its name, or by the beginning of it; it is not read.

        Raises:
            UsageError: There is none, or several begin so.
        """
        held = self.store.proposals()
        found = [one for one in held if one.id == name]
        found = found or [one for one in held if one.id.startswith(name)]
        if len(found) != 1:
            raise UsageError(
                f"proposal {name}",
                "several begin so" if found else "there is none of this name",
                "See `fedvol consent list`.",
            )
        return found[0]

    def approve(
        self, name: str, *, by: str, reason: str, source: str | None, now: datetime
    ) -> HeldConsent:
        """Agree to a proposal.

        Raises:
            UsageError: There is no such proposal, or it is over.
            PolicyRefusedError: The site's own policy forbids it; carries every rule.
            NoDataSourceError: No data source fits, or several do.
            AnsweredMeanwhileError: Another answer was given in this moment; that one holds.
            AuditError: It cannot be written down; then it is not in force.
        """
        record = self.record(name)
        held = self.store.consent(record.id)
        return self._approve(record, held=held, source=source, by=by, reason=reason, now=now)

    def approve_by_rule(self, record: HeldProposal, *, now: datetime) -> HeldConsent:
        """Agree to a proposal that nobody has answered yet, as `auto_approve` says.

        Raises:
            AnsweredMeanwhileError: Somebody answered it; that answer holds.
            FedvolError: As of `approve`.
        """
        return self._approve(record, held=None, source=None, by=BY_RULE, reason="", now=now)

    def refuse(self, name: str, *, by: str, reason: str, now: datetime) -> HeldConsent:
        """Decline a proposal; where the policy forbids it, the server learns that code.

        Raises:
            UsageError: There is no such proposal, or it is approved.
            AnsweredMeanwhileError: Another answer was given in this moment; that one holds.
            AuditError: It cannot be written down; then it is not in force.
        """
        record, proposed = self.find(name)
        held = self.store.consent(record.id)
        if held is not None and held.decision is Decision.APPROVE:
            raise UsageError(
                f"proposal {record.id}",
                "it is approved",
                f"To end that: fedvol consent withdraw {record.id}",
            )
        config = self.folder.config()
        code = PolicyRefusedError.code if violations(proposed.content, config) else ""
        return self._decide(
            record,
            Decision.REFUSE,
            site=config.site,
            held=held,
            by=by,
            reason=reason,
            code=code,
            now=now,
        )

    def withdraw(self, name: str, *, by: str, reason: str, now: datetime) -> HeldConsent:
        """Take an approval back: it holds before the next answer leaves.

        It needs nothing but the store and the key: neither the proposal's text nor `site.toml`.

        Raises:
            UsageError: There is no such proposal.
            ConsentMissingError: It is not approved.
            AuditError: It cannot be written down; it holds all the same.
        """
        record = self.record(name)
        held = self.store.consent(record.id)
        if held is None or held.decision is not Decision.APPROVE:
            raise ConsentMissingError(
                f"proposal {record.id}", "it is not approved", "There is nothing to withdraw."
            )
        return self._decide(
            record,
            Decision.WITHDRAW,
            site=_site_of(held),
            held=held,
            by=by,
            reason=reason,
            now=now,
        )

    def _approve(
        self,
        record: HeldProposal,
        *,
        held: HeldConsent | None,
        source: str | None,
        by: str,
        reason: str,
        now: datetime,
    ) -> HeldConsent:
        config = self.folder.config()
        proposed = read_proposal(record, site=config.site)
        if record.state in OVER:
            raise UsageError(
                f"proposal {record.id}", "it is over", "There is nothing to approve any more."
            )
        if against := violations(proposed.content, config):
            raise PolicyRefusedError(f"proposal {record.id}", against)
        chosen = fitting_source(config, proposed.study.data, name=source).name
        return self._decide(
            record,
            Decision.APPROVE,
            site=config.site,
            held=held,
            source=chosen,
            by=by,
            reason=reason,
            now=now,
        )

    def _decide(
        self,
        record: HeldProposal,
        decision: Decision,
        *,
        site: str,
        held: HeldConsent | None,
        by: str,
        reason: str,
        now: datetime,
        source: str = "",
        code: str = "",
    ) -> HeldConsent:
        at = now.astimezone(UTC).replace(microsecond=0)
        if held is not None:
            # The server takes answers in order of their time, which has whole seconds.
            at = max(at, held.at + timedelta(seconds=1))
        signed = sign_body(
            self.key,
            Tag.CONSENT,
            {
                "proposal": record.id,
                "plan": record.digest,
                "site": site,
                "decision": decision.value,
                "reason": code,
                "time": write_moment(at),
            },
        )
        answer = HeldConsent(
            proposal=record.id,
            decision=decision,
            source=source,
            by=by,
            reason=reason,
            code=code,
            at=at,
            signed=signed,
        )
        if decision is Decision.WITHDRAW:  # whatever becomes of the log, nothing more may leave
            self.store.add_consent(answer, after=None)
            self._log(record, answer)
        else:
            self.store.add_consent(
                answer,
                after=0 if held is None else held.sequence,
                before_kept=lambda: self._log(record, answer),
            )
        return answer

    def _log(self, record: HeldProposal, answer: HeldConsent) -> None:
        with AuditLog(self.folder.audit_file, signer=self.key) as log:
            log.append(
                ConsentDecision(
                    consent=consent_name(answer.signed),
                    proposal=record.digest,
                    proposed=record.kind,
                    run=record.run,
                    decision=_PAST[answer.decision],
                    by=answer.by,
                    reason=answer.reason,
                )
            )


def leave_site(folder: SiteFolder, *, by: str, reason: str, now: datetime) -> tuple[str, ...]:
    """Pause a site and withdraw every approval; the proposals that were approved.

    Raises:
        AuditError: It cannot be written down.
        StoreError: The folder cannot be written.
    """
    pause(folder, by=by, reason=reason or "the site leaves", now=now)
    withdrawn: list[str] = []
    with SiteStore(folder.store_file) as store:
        answering = Answering(folder=folder, store=store, key=folder.identity())
        for record in store.proposals():
            answer = store.consent(record.id)
            if answer is not None and answer.decision is Decision.APPROVE:
                answering.withdraw(record.id, by=by, reason=reason, now=now)
                withdrawn.append(record.id)
    return tuple(withdrawn)


def _site_of(approval: HeldConsent) -> str:
    """The site's name as its own approval has it."""
    signed = SignedBody.parse(approval.signed, where=f"approval of proposal {approval.proposal}")
    return str(json.loads(signed.payload)["site"])


def consent_name(signed: bytes) -> Digest:
    """The name of an answer: SHA-256 of its signed bytes."""
    return digest_bytes(signed)


def approved(
    store: SiteStore, run: RunId, *, digest: Digest
) -> tuple[HeldProposal, HeldConsent] | None:
    """The approval under which a run of this plan is answered; None if there is none."""
    for record in reversed(store.of_run(run, digest=digest)):
        held = store.consent(record.id)
        if held is not None and held.decision is Decision.APPROVE:
            return record, held
    return None
