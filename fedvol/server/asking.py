"""Asking every site one thing: each answer is checked, and whoever gives none has a reason."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fedvol.errors import FederationError, TimeLimitError
from fedvol.federation import Link, Reply, Request
from fedvol.telemetry import Observer

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Why a site has no answer.

    Attributes:
        code: Error code.
        title: Fixed words that belong to it.
        detail: What the check found; empty where the site itself refused or was silent.
        is_silent: Whether nothing came at all.
    """

    code: str
    title: str
    detail: str = ""
    is_silent: bool = False

    def tell(self, observer: Observer, *, request: Request) -> None:
        """Name the site and its reason as an event."""
        if self.is_silent:
            observer.event("site.silent", site=request.site, round=request.round)
            return
        observer.event(
            "site.refused",
            site=request.site,
            round=request.round,
            code=self.code,
            title=self.title,
            detail=self.detail,
        )

    def __str__(self) -> str:
        return self.detail or f"{self.code} {self.title}"


def ask_each(
    link: Link, requests: Sequence[Request], *, check: Callable[[Reply, Request], _Found]
) -> Iterator[tuple[Request, _Found | Missing]]:
    """Every request with what its site answered, as answers arrive; then the silent ones, sorted.

    Replies of sites that were not asked are left alone.

    Args:
        link: To the sites.
        requests: At most one a site.
        check: Takes a reply without a code apart; what it raises is the reason of that site alone.

    Raises:
        TransportError: The link is down.
    """
    waiting = {request.site: request for request in requests}
    for reply in link.ask(requests):
        request = waiting.pop(reply.site, None)
        if request is not None:
            yield request, _answer(reply, request, check=check)
    for _, request in sorted(waiting.items()):
        yield (
            request,
            Missing(code=TimeLimitError.code, title=TimeLimitError.title, is_silent=True),
        )


def _answer(
    reply: Reply, request: Request, *, check: Callable[[Reply, Request], _Found]
) -> _Found | Missing:
    if reply.code:
        return Missing(code=reply.code, title=reply.title)
    try:
        return check(reply, request)
    except FederationError as error:
        return Missing(code=error.code, title=error.title, detail=str(error))
