"""An error at a site: told there in full, and sent as its code alone."""

from fedvol.errors import FedvolError
from fedvol.federation import Request
from fedvol.privacy import Contribution, Releaser
from fedvol.telemetry import Observer


def refuse(
    releaser: Releaser, request: Request, error: FedvolError, *, observer: Observer
) -> Contribution:
    """Tell at the site why it does not answer, and release a refusal.

    Args:
        releaser: The site's way out.
        request: What was asked.
        error: Why not.
        observer: Hears of it, at the site.
    """
    observer.event(
        "site.refused",
        site=releaser.site,
        round=request.round,
        code=error.code,
        title=error.title,
        detail=str(error),
    )
    return releaser.refusal(request, error)
