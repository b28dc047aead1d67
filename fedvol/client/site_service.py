"""A hospital's process: the node that carries messages, and the worker beside it."""

import threading
from contextlib import closing
from pathlib import Path

from fedvol.client.site_app import SiteAppSpec, opens_site_app
from fedvol.identity import NodeKey, client_context
from fedvol.telemetry import Observer
from fedvol.transport.network.fleet_connection import FleetConnection
from fedvol.transport.network.fleet_node import FleetNode, NodeTiming
from fedvol.transport.network.warm_worker import WarmWorker
from fedvol.types import SiteId


def serve_site(
    spec: SiteAppSpec,
    *,
    node_key: NodeKey,
    timing: NodeTiming,
    observer: Observer,
    stop: threading.Event,
) -> None:
    """Answer the server's messages until told to stop.

    Args:
        spec: The worker's app.
        node_key: Key of the site's node.
        timing: How often the node speaks.
        observer: Hears of progress.
        stop: Ends it, after the message under way.
    """
    tls = client_context(Path(spec.authority_file).read_bytes())
    connection = FleetConnection(
        spec.address, tls=tls, key=node_key, heartbeat_s=timing.heartbeat_s
    )
    node = FleetNode(
        connection,
        site=SiteId(spec.agent.site),
        state=Path(spec.agent.folder) / "node",
        timing=timing,
        observer=observer,
    )
    with closing(connection), closing(WarmWorker(opens_site_app(spec), observer=observer)) as app:
        node.serve(app, stop=stop)
