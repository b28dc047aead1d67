"""A hospital's refusals: told at the site in full, released as their code alone."""

from typing import final

from fedvol.audit import AuditSink
from fedvol.client.refusing import refuse
from fedvol.config import SitePolicy
from fedvol.errors import ConfigError, FedvolError
from fedvol.federation import Request
from fedvol.privacy import Contribution, Delivery, Releaser
from fedvol.site import SiteFolder, held_roster
from fedvol.telemetry import Observer
from fedvol.types import SiteId


@final
class SiteRefusals:
    """Refuses in the name of one hospital, whatever is wrong with its files.

    Args:
        folder: The site's folder.
        site: Its name.
        audit: Where each refusal is written down.
        observer: Hears of it, at the site.
    """

    def __init__(
        self, folder: SiteFolder, *, site: SiteId, audit: AuditSink, observer: Observer
    ) -> None:
        self._folder = folder
        self._site = site
        self._audit = audit
        self._observer = observer

    def refuse(self, request: Request, error: FedvolError) -> Contribution:
        """Tell at the site why a request has no answer; the code of the reason is released.

        Raises:
            AuditError: It cannot be written down.
            RosterError: The roster that is held was changed.
        """
        releaser = Releaser(
            site=self._site,
            plan=request.plan,
            policy=self._policy(),
            audit=self._audit,
            delivery=self.delivery(""),
        )
        return refuse(releaser, request, error, observer=self._observer)

    def delivery(self, consent: str) -> Delivery:
        """What the log says of the recipient: the server of the roster that is held."""
        roster = held_roster(self._folder)
        key = "" if roster is None else roster.server.identity.fingerprint
        return Delivery(recipient_key=key, consent=consent)

    def _policy(self) -> SitePolicy:
        try:
            return self._folder.config().policy
        except ConfigError:  # nothing but a code leaves, and the strictest rules are the default
            return SitePolicy()
