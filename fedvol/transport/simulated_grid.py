"""`SimulatedGrid`: what every Flower grid without sockets has in common."""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import final

from fedvol.transport.clock import Clock
from fedvol.transport.engine import (
    Grid,
    Message,
    NodeInfo,
    RecordDict,
    Run,
    ServerApp,
    set_message_id,
    set_task_identity,
)
from fedvol.transport.faults import SERVER_NODE
from fedvol.transport.flower import SITE_KEY, node_context
from fedvol.types import SiteId

RUN_ID = 1
_FIRST_NODE = 100


class SimulatedGrid(Grid):
    """Nodes with the names of sites, numbered in their sorted order; abstract.

    Args:
        sites: Names of the sites.
        clock: Time for limits.
        node_config: What a site's node is told beside its name.
    """

    def __init__(
        self,
        *,
        sites: Sequence[SiteId],
        clock: Clock,
        node_config: Mapping[SiteId, Mapping[str, str]] | None = None,
    ) -> None:
        if len(set(sites)) != len(sites):
            raise ValueError("two sites share a name")
        set_task_identity(run=RUN_ID, node=SERVER_NODE)
        self._sites = {_FIRST_NODE + index: site for index, site in enumerate(sorted(sites))}
        told = node_config or {}
        self._contexts = {
            node: node_context(node, {SITE_KEY: site, **told.get(site, {})}, run=RUN_ID)
            for node, site in self._sites.items()
        }
        self._clock = clock
        self._num_pushed = 0
        self._run = Run.create_empty(RUN_ID)

    @abstractmethod
    def _accept(self, message: Message) -> None:
        """Take a message, which is nobody else's, for one of the nodes."""

    @final
    @property
    def clock(self) -> Clock:
        """The time by which replies arrive."""
        return self._clock

    @final
    def set_run(self, run: Run) -> None:
        """Take note of the run."""
        self._run = run

    @final
    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    @final
    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message; Flower's older way of making one."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    @final
    def get_node_ids(self) -> Iterable[int]:
        """Numbers of the nodes."""
        return tuple(self._sites)

    @final
    def get_nodes(self) -> Iterable[NodeInfo]:
        """The nodes with their sites' names."""
        return tuple(NodeInfo(node_id=node, name=site) for node, site in self._sites.items())

    @final
    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Accept messages; one for an unknown node gets an empty id."""
        ids: list[str] = []
        for message in messages:
            if message.metadata.dst_node_id not in self._sites:
                ids.append("")
                continue
            self._num_pushed += 1
            message_id = f"m{self._num_pushed}"
            set_message_id(message, message_id)
            # A copy, as a wire would make; tensors are bytes, which nobody can change.
            self._accept(copy.deepcopy(message))
            ids.append(message_id)
        return ids


def run_server_app(server_app: ServerApp, grid: SimulatedGrid) -> None:
    """Run a server app over a grid to its end.

    Raises:
        FedvolError: Whatever the server app raises.
    """
    server_app(grid, node_context(SERVER_NODE, {}, run=RUN_ID))


def named(reply: Message) -> Message:
    """Give a reply its own name."""
    set_message_id(reply, f"r{reply.metadata.reply_to_message_id}")
    return reply
