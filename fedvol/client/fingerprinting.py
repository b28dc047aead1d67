"""`FingerprintAgent`: a site's side of the job that comes before a plan."""

from collections.abc import Sequence

from fedvol.audit import AuditSink
from fedvol.client.refusing import refuse
from fedvol.config import SitePolicy
from fedvol.data import CaseRecord
from fedvol.errors import FedvolError, ReleaseRefusedError
from fedvol.federation import Action, Request
from fedvol.plan import Proposal, class_names
from fedvol.privacy import IN_PROCESS, Contribution, Delivery, Releaser
from fedvol.telemetry import Observer
from fedvol.types import SiteId


class FingerprintAgent:
    """Answers one question, for the fingerprint of its training cases.

    Args:
        site: Which site it is.
        proposal: The study it agreed to be counted for; any other is refused.
        records: The site's catalogue.
        policy: The site's own floors.
        audit: Where every release is recorded before it leaves.
        observer: Hears of progress, at the site.
        delivery: To whom contributions go, and under which consent.
    """

    def __init__(
        self,
        *,
        site: SiteId,
        proposal: Proposal,
        records: Sequence[CaseRecord],
        policy: SitePolicy,
        audit: AuditSink,
        observer: Observer,
        delivery: Delivery = IN_PROCESS,
    ) -> None:
        self._site = site
        self._data = proposal.study.data
        self._records = records
        self._observer = observer
        self._releaser = Releaser(
            site=site, plan=proposal.digest, policy=policy, audit=audit, delivery=delivery
        )

    def handle(self, request: Request) -> Contribution:
        """Answer; an error becomes a refusal that carries its code alone."""
        try:
            if request.action is not Action.FINGERPRINT:
                raise ReleaseRefusedError(
                    f"site {self._site}",
                    f"{request.action.value} was asked where only a fingerprint was agreed to",
                    "Propose a run with its plan first.",
                )
            facts = [record.facts for record in self._records if record.split == "train"]
            return self._releaser.fingerprint(
                request,
                [one for one in facts if one is not None],
                channels=self._data.channels,
                classes=class_names(self._data),
            )
        except FedvolError as error:
            return refuse(self._releaser, request, error, observer=self._observer)
