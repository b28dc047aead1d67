"""Sites of `network` that do not do as they should: hospitals with keys of their own, at fault."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from fedvol.client.hospital import serve_hospital
from fedvol.federation import Action, Request
from fedvol.privacy import Contribution
from fedvol.privacy.contribution import sealed
from fedvol.site import SiteFolder
from fedvol.telemetry import Observer
from fedvol.transport.carriers import Handle
from fedvol.types import SiteId

OFF = timedelta(minutes=10)
"""How far the clock of a site with a wrong one is ahead."""


def not_finite(given: Contribution) -> Contribution:
    tensors = {name: np.full_like(array, np.nan) for name, array in given.tensors.items()}
    return sealed(given.kind, values=given.values, tensors=tensors, digest=given.digest)


def other_shapes(given: Contribution) -> Contribution:
    tensors = {name: np.ravel(array)[:1] for name, array in given.tensors.items()}
    return sealed(given.kind, values=given.values, tensors=tensors, digest=given.digest)


def other_version(given: Contribution) -> Contribution:
    values = {**given.values, "software": "9.9.9"}
    return sealed(given.kind, values=values, tensors={}, digest=given.digest)


def nothing(given: Contribution) -> Contribution:
    threading.Event().wait()
    return given


@dataclass(frozen=True, kw_only=True)
class Spoiled:
    """Every answer to one kind of request is changed before it is signed.

    Attributes:
        action: The request.
        change: What becomes of its answer.
    """

    action: Action
    change: Callable[[Contribution], Contribution]

    def __call__(self, handle: Handle) -> Handle:
        def spoiled(site: SiteId, request: Request) -> Contribution:
            given = handle(site, request)
            return self.change(given) if request.action is self.action and not given.code else given

        return spoiled


SPOILS = {
    "not-finite": Spoiled(action=Action.FINETUNE, change=not_finite),
    "other-shapes": Spoiled(action=Action.FINETUNE, change=other_shapes),
    "other-version": Spoiled(action=Action.HEALTH, change=other_version),
    "nothing": Spoiled(action=Action.FINETUNE, change=nothing),
}
WRONG_CLOCK = "wrong-clock"


def serve_faulty(
    fault: str, folder: SiteFolder, *, observer: Observer, stop: threading.Event
) -> None:
    """`serve_hospital` with a fault.

    Args:
        fault: A name in `SPOILS`, or `WRONG_CLOCK`.
        folder: The site's folder.
        observer: Hears of progress.
        stop: Ends it.
    """
    if fault == WRONG_CLOCK:
        set_clock_wrong()
        serve_hospital(folder, observer=observer, stop=stop)
    else:
        serve_hospital(folder, observer=observer, stop=stop, through=SPOILS[fault])


def set_clock_wrong() -> None:
    """What this process signs to the engine is made in the future."""
    from flwr.supernode import node_auth_http_interceptor

    node_auth_http_interceptor.now = lambda: datetime.now(UTC) + OFF
