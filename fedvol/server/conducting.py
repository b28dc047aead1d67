"""Conducting a run over the network, in a process that may be killed at any moment."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from fedvol.errors import TransportError
from fedvol.federation import MetricSums
from fedvol.identity import IdentityKey
from fedvol.plan import Plan
from fedvol.server.clock import SystemClock
from fedvol.server.coordinator import Coordinator, Outcome
from fedvol.server.front_door import MAX_BLOB_BYTES, ServerFolder
from fedvol.store import BlobStore, RunStore, open_engine
from fedvol.telemetry import Observer
from fedvol.transport.flower_link import FlowerLink
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.transport.network.calls import SiteKeys
from fedvol.transport.network.server_run import PrivateAddress, server_run
from fedvol.transport.network.signed_server import SignedServer
from fedvol.types import RunId, SiteId, State

POLL_S = 0.5
"""Seconds between two looks for answers."""

AWAY_S = 3600.0
"""How long the engine may be away before the coordinator gives up; the run can be gone on with."""

RETRY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conducted:
    """A run that was conducted to its end.

    Attributes:
        outcome: The release, and what sites said of their data.
        tests: Sums of each site's test cases.
    """

    outcome: Outcome
    tests: Mapping[SiteId, MetricSums]


def conduct(
    run: RunId,
    *,
    plan: Plan,
    initial: State,
    folder: ServerFolder,
    private_port: int,
    key: IdentityKey,
    sites: SiteKeys,
    observer: Observer,
    poll_s: float = POLL_S,
) -> Conducted:
    """Bring a run to its end, from wherever its record stands, and have its release judged.

    Args:
        run: The run.
        plan: What it does.
        initial: Its initial weights.
        folder: The server's state folder.
        private_port: Where the engine listens on the loopback address.
        key: The server's identity.
        sites: Identities of the active sites.
        observer: Hears of progress.
        poll_s: Seconds between two looks for answers.

    Raises:
        QuorumError: Too few sites, too often.
        TransportError: The engine was away for longer than `AWAY_S`.
    """
    coordinator = Coordinator(
        run=run,
        plan=plan,
        initial=initial,
        store=RunStore(open_engine(folder.store)),
        blobs=BlobStore(folder.blobs(run)),
        clock=SystemClock(),
        observer=observer,
    )
    private = PrivateAddress(port=private_port, secret=folder.secret())
    clock = SystemClock()
    last_up_s = clock.monotonic_s()
    while True:
        try:
            with server_run(private) as grid:
                link = FlowerLink(
                    grid, carrier=_carrier(folder, key, sites), poll_s=poll_s, awaits_return=True
                )
                last_up_s = clock.monotonic_s()
                outcome = coordinator.conduct(link)
                return Conducted(outcome=outcome, tests=coordinator.test(link, outcome))
        except TransportError as error:
            if clock.monotonic_s() - last_up_s > AWAY_S:
                raise
            observer.event("engine.down", name=run, what=error.what)
            time.sleep(RETRY_S)


def _carrier(folder: ServerFolder, key: IdentityKey, sites: SiteKeys) -> SignedServer:
    blobs = BlobFolder(folder.exchange, max_bytes=MAX_BLOB_BYTES)
    return SignedServer(key, sites=sites, blobs=blobs)
