"""`Gate`: whether the site answers a request now, written down each time it decides."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import final

from fedvol.audit import AuditSink, PolicyDecision
from fedvol.config import SiteConfig
from fedvol.errors import (
    ConfigError,
    ConsentMissingError,
    FedvolError,
    OutsideHoursError,
    PolicyRefusedError,
    Problem,
    SitePausedError,
    UsageError,
)
from fedvol.federation import Request
from fedvol.plan import digest_json
from fedvol.site.consent import approved, consent_name
from fedvol.site.folder import SiteFolder
from fedvol.site.policy import is_within, violations
from fedvol.site.proposals import Proposed, read_proposal
from fedvol.store import HeldConsent, HeldProposal, SiteStore
from fedvol.types import Digest, RunId

REREAD_S = 1.0
"""Seconds after which a `site.toml` that is wrong is read once more."""


def local_now() -> datetime:
    """The time on this machine's clock, with its zone."""
    return datetime.now().astimezone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A run that the site agrees to now.

    Attributes:
        proposed: What was approved.
        consent: The approval.
        config: The site's own file, as it is now.
    """

    proposed: Proposed
    consent: HeldConsent
    config: SiteConfig

    @property
    def terms(self) -> Digest:
        """Digest of what decides what may leave: this very approval, and the policy's bounds.

        Hours are for computing, progress is told beside the answers, and how fast something leaves
        does not change what leaves.
        """
        beside = {"hours", "tell_progress", "max_upload_mbit_s"}
        bounds = self.config.policy.model_dump(mode="json", exclude=beside)
        return digest_json([consent_name(self.consent.signed), bounds])


@final
class Gate:
    """Consent, pause and policy, read anew for every request: before work, and whenever it leaves.

    Args:
        folder: The site's folder.
        store: Its proposals and consents.
        audit: Where each decision on a request is written down.
        now: The local time.
        wait: How to let seconds pass before `site.toml` is read once more.
    """

    def __init__(
        self,
        folder: SiteFolder,
        store: SiteStore,
        *,
        audit: AuditSink,
        now: Callable[[], datetime] = local_now,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = folder
        self._store = store
        self._audit = audit
        self._now = now
        self._wait = wait
        self._read: tuple[HeldProposal, Proposed] | None = None

    def require(self, request: Request) -> Admitted:
        """What the request is answered under.

        Raises:
            ConsentMissingError: Nobody approved this run with this plan, or it was withdrawn.
            SitePausedError: The site is paused.
            PolicyRefusedError: The policy, as it is now, forbids the plan.
            OutsideHoursError: The site does not train at this time.
            SiteFileError: `site.toml` is wrong; then nothing is answered.
            AuditError: The decision cannot be written down; then nothing is answered.
        """
        with self._refusals_written(request):
            admitted = self.agreed(request.run, digest=request.plan)
            if not is_within(admitted.config.policy.hours, self._now()):
                raise OutsideHoursError(
                    f"run {request.run}",
                    "the site does not train at this time of day",
                    "It goes on by itself; policy.hours says when.",
                )
        self._audit.append(_decision(request))
        return admitted

    def terms(self, request: Request) -> Digest:
        """The terms under which an answer to a request may leave now; only a refusal is written.

        The hours are for computing; what was computed within them may leave after them.

        Raises:
            FedvolError: As of `require`, but for the hours.
        """
        with self._refusals_written(request):
            return self.agreed(request.run, digest=request.plan).terms

    def require_still(self, request: Request, *, terms: Digest) -> None:
        """Refuse to send what was computed under terms that do not hold any more.

        Raises:
            FedvolError: As of `require_under`.
        """
        self.require_under(request, is_under=lambda now: now == terms)

    def require_under(self, request: Request, *, is_under: Callable[[Digest], bool]) -> None:
        """Refuse to send an answer that was not given under the terms that hold now.

        Args:
            request: What was asked.
            is_under: Whether the answer was given under these terms.

        Raises:
            PolicyRefusedError: The policy forbids the plan now, or the answer was given under
                another policy or another approval.
            FedvolError: As of `terms`.
        """
        with self._refusals_written(request):
            if not is_under(self.agreed(request.run, digest=request.plan).terms):
                changed = Problem(
                    where="policy",
                    what="it was changed, or the run approved anew, since the answer was computed",
                    fix="What was computed stays here; the next request is answered under it.",
                )
                raise PolicyRefusedError(f"run {request.run}", [changed])

    def agreed(self, run: RunId, *, digest: Digest) -> Admitted:
        """What the site agrees to of a run with a plan, at this moment; nothing is written.

        Raises:
            ConsentMissingError: Nobody approved it with this plan, or it was withdrawn.
            SitePausedError: The site is paused.
            PolicyRefusedError: The policy forbids the plan.
            SiteFileError: `site.toml` is wrong.
        """
        where = f"run {run}"
        found = approved(self._store, run, digest=digest)
        if found is None:
            raise ConsentMissingError(
                where,
                "nobody at this site approved it with this plan, or the approval was withdrawn",
                "See `fedvol consent list`. What was computed meanwhile stays here.",
            )
        record, consent = found
        if self._folder.paused_file.exists():
            raise SitePausedError(where, "the site is paused", "Go on with: fedvol site resume")
        config = self._config()
        proposed = self._proposed(record, site=config.site)
        if against := violations(proposed.content, config):
            raise PolicyRefusedError(where, against)
        return Admitted(proposed=proposed, consent=consent, config=config)

    def _config(self) -> SiteConfig:
        """`site.toml`, which somebody may be saving at this moment: what is wrong is read twice.

        An answer that took hours is not thrown away for a file that is half there.
        """
        try:
            return self._folder.config()
        except (ConfigError, UsageError):
            self._wait(REREAD_S)
            return self._folder.config()

    def _proposed(self, record: HeldProposal, *, site: str) -> Proposed:
        """A proposal; it is parsed once, for many pieces of one answer may leave under it."""
        if self._read is None or self._read[0] != record or site not in self._read[1].content.sites:
            self._read = (record, read_proposal(record, site=site))
        return self._read[1]

    @contextmanager
    def _refusals_written(self, request: Request) -> Generator[None]:
        try:
            yield
        except FedvolError as error:
            self._audit.append(_decision(request, error))
            raise


def _decision(request: Request, error: FedvolError | None = None) -> PolicyDecision:
    match error:
        case PolicyRefusedError():
            rules = tuple(problem.where for problem in error.problems)
        case OutsideHoursError():
            rules = ("policy.hours",)
        case _:
            rules = ()
    return PolicyDecision(
        run=request.run,
        plan=request.plan,
        stage=request.stage,
        round=request.round,
        action=request.action.value,
        rules=rules,
        decision="refused" if error else "allowed",
        code=error.code if error else "",
    )
