"""Sites of `network` that do not do as they should; each is a real process with a site's keys."""

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from fedvol.client import SiteAgent
from fedvol.client.site_app import SiteAppSpec, opens_site_app
from fedvol.federation import Action, Request
from fedvol.identity import NodeKey, client_context
from fedvol.privacy import Contribution
from fedvol.privacy.contribution import sealed
from fedvol.telemetry import Observer
from fedvol.transport.network.fleet_connection import FleetConnection
from fedvol.transport.network.fleet_node import FleetNode, NodeTiming
from fedvol.types import SiteId

OFF = timedelta(minutes=10)
"""How far the clock of a site with a wrong one is ahead."""

Spoil = Callable[[Contribution], Contribution]


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


SPOILS: dict[str, tuple[Action, Spoil]] = {
    "not-finite": (Action.FINETUNE, not_finite),
    "other-shapes": (Action.FINETUNE, other_shapes),
    "other-version": (Action.HEALTH, other_version),
    "nothing": (Action.FINETUNE, nothing),
}
WRONG_CLOCK = "wrong-clock"


def serve_faulty(
    fault: str,
    spec: SiteAppSpec,
    *,
    node_key: NodeKey,
    timing: NodeTiming,
    observer: Observer,
    stop: threading.Event,
) -> None:
    """`serve_site` with a fault; agent and node are in one process, whose code is not the site's.

    Args:
        fault: A name in `SPOILS`, or `WRONG_CLOCK`.
        spec: The site's app.
        node_key: Key of its node.
        timing: How often it speaks.
        observer: Hears of progress.
        stop: Ends it.
    """
    if fault == WRONG_CLOCK:
        set_clock_wrong()
    else:
        spoil(*SPOILS[fault])
    tls = client_context(Path(spec.authority_file).read_bytes())
    with closing(
        FleetConnection(spec.address, tls=tls, key=node_key, heartbeat_s=timing.heartbeat_s)
    ) as connection:
        node = FleetNode(
            connection,
            site=SiteId(spec.agent.site),
            state=Path(spec.agent.folder) / "node",
            timing=timing,
            observer=observer,
        )
        node.serve(opens_site_app(spec)(0, observer), stop=stop)


def spoil(action: Action, change: Spoil) -> None:
    """Have every answer to one kind of request changed before it is signed."""
    handle = SiteAgent.handle

    def spoiled(agent: SiteAgent, request: Request) -> Contribution:
        given = handle(agent, request)
        return change(given) if request.action is action and not given.code else given

    SiteAgent.handle = spoiled


def set_clock_wrong() -> None:
    """Whatever this process signs is made in the future."""
    from flwr.supernode import node_auth_http_interceptor

    node_auth_http_interceptor.now = lambda: datetime.now(UTC) + OFF
