"""A Flower grid in one process: the same apps, no sockets, the same bits every time.

Pushing queues a message; pulling runs the app on it and returns its reply, so one site works and
one update is in memory at a time. Faults can be put in its way.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import final

from fedvol.transport.clock import Clock, VirtualClock
from fedvol.transport.engine import APP_FAILED_CODE, App, Error, Message, ServerApp
from fedvol.transport.faults import Faults, afterwards, instead, no_fault
from fedvol.transport.simulated_grid import SimulatedGrid, named, run_server_app
from fedvol.transport.wire import peek_request
from fedvol.types import SiteId


@final
class InProcessGrid(SimulatedGrid):
    """Flower nodes that are function calls.

    Args:
        client_app: The app of every site.
        sites: Names of the sites; nodes are numbered in their sorted order.
        node_config: What the app is told of its node beside the site's name.
        faults: What goes wrong; None: nothing.
        clock: Time for limits; None: it passes only while the link waits.
    """

    def __init__(
        self,
        client_app: App,
        *,
        sites: Sequence[SiteId],
        node_config: Mapping[SiteId, Mapping[str, str]] | None = None,
        faults: Faults | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(sites=sites, clock=clock or VirtualClock(), node_config=node_config)
        self._app = client_app
        self._faults = faults or no_fault
        self._queue: dict[str, Message] = {}

    def _accept(self, message: Message) -> None:
        self._queue[message.metadata.message_id] = message

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the first queued message of these in site order, and return its reply."""
        wanted = set(message_ids)
        queued = [message for message_id, message in self._queue.items() if message_id in wanted]
        if not queued:
            return []
        message = min(queued, key=lambda one: one.metadata.dst_node_id)
        return self._deliver(self._queue.pop(message.metadata.message_id))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Run every message at once; nothing else can arrive later, so no time is waited."""
        del timeout
        ids = list(self.push_messages(messages))
        replies: list[Message] = []
        while arrived := list(self.pull_messages(ids)):
            replies.extend(arrived)
        return replies

    def _deliver(self, message: Message) -> list[Message]:
        fault = self._faults(peek_request(message.content))
        early = instead(fault, message=message)
        if early is not None:
            return [named(reply) for reply in early]
        return afterwards(fault, reply=named(self._run_app(message)))

    def _run_app(self, message: Message) -> Message:
        try:
            return self._app(message, self._contexts[message.metadata.dst_node_id])
        except Exception:  # noqa: BLE001  # an app that raises is an answer, as in Flower's own nodes
            return Message(Error(APP_FAILED_CODE, ""), reply_to=message)


def run_in_process(
    server_app: ServerApp,
    client_app: App,
    *,
    sites: Sequence[SiteId],
    faults: Faults | None = None,
) -> None:
    """Run a server app and the client app of every site to the server app's end.

    Args:
        server_app: From `make_server_app`.
        client_app: From `make_client_app`.
        sites: Names of the sites.
        faults: What goes wrong; None: nothing.

    Raises:
        FedvolError: Whatever the server app raises.
    """
    run_server_app(server_app, InProcessGrid(client_app, sites=sites, faults=faults))
