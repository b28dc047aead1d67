"""`Gate`: whether the site answers a request now, written down each time it decides."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import final

from fedvol.audit import AuditSink, PolicyDecision
from fedvol.config import SiteConfig
from fedvol.errors import (
    ConsentMissingError,
    FedvolError,
    OutsideHoursError,
    PolicyRefusedError,
    SitePausedError,
)
from fedvol.federation import Request
from fedvol.site.consent import approved
from fedvol.site.folder import SiteFolder
from fedvol.site.policy import is_within, violations
from fedvol.site.proposals import Proposed, read_proposal
from fedvol.store import HeldConsent, SiteStore
from fedvol.types import Digest, RunId


def local_now() -> datetime:
    """The time on this machine's clock, with its zone."""
    return datetime.now().astimezone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A request that the site answers.

    Attributes:
        proposed: What was approved.
        consent: The approval.
        config: The site's own file, as it is now.
    """

    proposed: Proposed
    consent: HeldConsent
    config: SiteConfig


@final
class Gate:
    """Consent, pause, policy and hours, read anew for every request: before work and after it.

    Args:
        folder: The site's folder.
        store: Its proposals and consents.
        audit: Where each decision on a request is written down.
        now: The local time.
    """

    def __init__(
        self,
        folder: SiteFolder,
        store: SiteStore,
        *,
        audit: AuditSink,
        now: Callable[[], datetime] = local_now,
    ) -> None:
        self._folder = folder
        self._store = store
        self._audit = audit
        self._now = now

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
        try:
            admitted = self._admitted(request)
        except FedvolError as error:
            self._audit.append(_decision(request, error))
            raise
        self._audit.append(_decision(request))
        return admitted

    def still_agrees(self, request: Request) -> bool:
        """Whether an answer may leave: it is approved, and the site is not paused.

        The hours are for computing; what was computed within them may leave after them.
        """
        return self.still_approved(request.run, digest=request.plan)

    def still_approved(self, run: RunId, *, digest: Digest) -> bool:
        """The same of a run with a plan."""
        if self._folder.paused_file.exists():
            return False
        return approved(self._store, run, digest=digest) is not None

    def require_still(self, request: Request) -> None:
        """Refuse to send what was computed under an approval that is gone.

        Raises:
            ConsentMissingError: The approval was withdrawn meanwhile, or the site paused.
            AuditError: That cannot be written down.
        """
        if not self.still_agrees(request):
            error = ConsentMissingError(
                f"run {request.run}",
                "the approval was withdrawn, or the site paused, while it was computed",
                "What was computed stays here.",
            )
            self._audit.append(_decision(request, error))
            raise error

    def _admitted(self, request: Request) -> Admitted:
        where = f"run {request.run}"
        found = approved(self._store, request.run, digest=request.plan)
        if found is None:
            raise ConsentMissingError(
                where,
                "nobody at this site approved it with this plan, or the approval was withdrawn",
                "See `fedvol consent list`.",
            )
        record, consent = found
        if self._folder.paused_file.exists():
            raise SitePausedError(where, "the site is paused", "Go on with: fedvol site resume")
        config = self._folder.config()
        proposed = read_proposal(record, site=config.site)
        if against := violations(proposed.content, config):
            raise PolicyRefusedError(where, against)
        if not is_within(config.policy.hours, self._now()):
            raise OutsideHoursError(
                where,
                "the site does not train at this time of day",
                "It goes on by itself; policy.hours says when.",
            )
        return Admitted(proposed=proposed, consent=consent, config=config)


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
