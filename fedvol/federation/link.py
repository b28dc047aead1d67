"""`Link`: the seam between the round engine and whatever carries messages."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from fedvol.federation.messages import Reply, Request
from fedvol.types import SiteId


class Link(Protocol):
    """Carries requests to sites and their replies back."""

    def sites(self) -> tuple[SiteId, ...]:
        """Sites that can be asked now, sorted."""
        ...

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Send requests and yield each reply as it arrives, one at a time.

        Ends when every site has answered or its limit has passed; a site that stays silent
        yields nothing, a site that failed yields a reply with a code.

        Raises:
            TransportError: The link as a whole is down.
        """
        ...
