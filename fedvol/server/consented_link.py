"""`ConsentedLink`: nothing is asked of a site that does not agree at that moment."""

from collections.abc import Callable, Iterator, Sequence
from typing import final

from fedvol.errors import NoConsentError
from fedvol.federation import Link, Reply, Request
from fedvol.types import SiteId


@final
class ConsentedLink:
    """A link that asks the consenting sites alone.

    Args:
        link: To all sites.
        consenting: The sites that agree now; looked at whenever something is to be asked.
    """

    def __init__(self, link: Link, *, consenting: Callable[[], frozenset[SiteId]]) -> None:
        self._link = link
        self._consenting = consenting

    def sites(self) -> tuple[SiteId, ...]:
        """Consenting sites that are there, sorted."""
        consenting = self._consenting()
        return tuple(site for site in self._link.sites() if site in consenting)

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Ask who agrees; for the others, yield a refusal in their stead, and send nothing.

        Raises:
            TransportError: The link is down.
        """
        consenting = self._consenting()
        for request in requests:
            if request.site not in consenting:
                yield Reply.failed(request, NoConsentError)
        allowed = [request for request in requests if request.site in consenting]
        if allowed:
            yield from self._link.ask(allowed)
