"""A Flower grid in one process: the same apps, no sockets, the same bits every time.

Pushing queues a message; pulling runs the app on it and returns its reply, so one site works and
one update is in memory at a time. Faults can be put in its way.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import final

import numpy as np

from fedvol.federation import Request
from fedvol.transport.clock import Clock, VirtualClock
from fedvol.transport.engine import (
    APP_FAILED_CODE,
    NODE_GONE_CODES,
    Array,
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Context,
    Error,
    Grid,
    Message,
    NodeInfo,
    RecordDict,
    Run,
    ServerApp,
    set_message_id,
    set_task_identity,
)
from fedvol.transport.flower import SITE_KEY
from fedvol.transport.wire import peek_request, reply_header
from fedvol.types import SiteId

_RUN_ID = 1
_SERVER_NODE = 1
_FIRST_NODE = 100


class Fault(StrEnum):
    """What can go wrong between server and site."""

    SILENT = "silent"
    """The site never gets the message."""
    LOST = "lost"
    """The site does its work, and its reply is lost."""
    ERROR = "error"
    """The site's app raises, with a text that must not be shown."""
    CRASH = "crash"
    """The site's node disappears; Flower answers for it."""
    CORRUPT = "corrupt"
    """The reply arrives damaged."""
    NON_FINITE = "non_finite"
    """The reply's first tensor is all NaN."""
    DUPLICATE = "duplicate"
    """The reply arrives twice."""
    STRANGER = "stranger"
    """A reply to no question of ours arrives before the reply."""
    WRONG_SITE = "wrong_site"
    """The reply says it comes from another site."""


Faults = Callable[[Request], Fault | None]
"""Decides by a request, its tensors left out, what goes wrong with it."""


@final
class InProcessGrid(Grid):
    """Flower nodes that are function calls.

    Args:
        client_app: The app of every site.
        sites: Names of the sites; nodes are numbered in their sorted order.
        faults: What goes wrong; None: nothing.
        clock: Time for limits; None: it passes only while the link waits.
    """

    def __init__(
        self,
        client_app: ClientApp,
        *,
        sites: Sequence[SiteId],
        faults: Faults | None = None,
        clock: Clock | None = None,
    ) -> None:
        if len(set(sites)) != len(sites):
            raise ValueError("two sites share a name")
        set_task_identity(run=_RUN_ID, node=_SERVER_NODE)
        self._app = client_app
        self._sites = {_FIRST_NODE + index: site for index, site in enumerate(sorted(sites))}
        self._contexts = {node: _context(node, site) for node, site in self._sites.items()}
        self._faults = faults or _no_fault
        self._clock = clock or VirtualClock()
        self._queue: dict[str, Message] = {}
        self._num_pushed = 0
        self._run = Run.create_empty(_RUN_ID)

    @property
    def clock(self) -> Clock:
        """The time by which replies arrive."""
        return self._clock

    def set_run(self, run: Run) -> None:
        """Take note of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

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

    def get_node_ids(self) -> Iterable[int]:
        """Numbers of the nodes."""
        return tuple(self._sites)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """The nodes with their sites' names."""
        return tuple(NodeInfo(node_id=node, name=site) for node, site in self._sites.items())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages; one for an unknown node gets an empty id."""
        ids: list[str] = []
        for message in messages:
            if message.metadata.dst_node_id not in self._sites:
                ids.append("")
                continue
            self._num_pushed += 1
            message_id = f"m{self._num_pushed}"
            set_message_id(message, message_id)
            # A copy, as a wire would make; tensors are bytes, which nobody can change.
            self._queue[message_id] = copy.deepcopy(message)
            ids.append(message_id)
        return ids

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
        match fault:
            case Fault.SILENT:
                return []
            case Fault.CRASH:
                return [_from_nobody(message)]
            case Fault.ERROR:
                text = "ValueError: /data/patients/0042.nii.gz"
                return [self._named(Message(Error(APP_FAILED_CODE, text), reply_to=message))]
            case _:
                reply = self._named(self._run_app(message))
        match fault:
            case Fault.LOST:
                return []
            case Fault.DUPLICATE:
                return [reply, copy.deepcopy(reply)]
            case Fault.STRANGER:
                return [_stranger(reply), reply]
            case Fault.CORRUPT | Fault.NON_FINITE | Fault.WRONG_SITE:
                return [_spoiled(reply, fault)]
            case _:
                return [reply]

    def _run_app(self, message: Message) -> Message:
        try:
            return self._app(message, self._contexts[message.metadata.dst_node_id])
        except Exception:  # noqa: BLE001  # an app that raises is an answer, as in Flower's own nodes
            return Message(Error(APP_FAILED_CODE, ""), reply_to=message)

    def _named(self, reply: Message) -> Message:
        set_message_id(reply, f"r{reply.metadata.reply_to_message_id}")
        return reply


def run_in_process(
    server_app: ServerApp,
    client_app: ClientApp,
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
    grid = InProcessGrid(client_app, sites=sites, faults=faults)
    server_app(grid, _context(_SERVER_NODE, SiteId("")))


def _context(node: int, site: SiteId) -> Context:
    return Context(
        run_id=_RUN_ID,
        node_id=node,
        node_config={SITE_KEY: site} if site else {},
        state=RecordDict(),
        run_config={},
    )


def _no_fault(request: Request) -> Fault | None:
    del request
    return None


def _from_nobody(message: Message) -> Message:
    """Flower's answer for a node that is gone: from its own node number, with an error."""
    reply = Message(Error(min(NODE_GONE_CODES), ""), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = _SERVER_NODE
    return reply


def _stranger(reply: Message) -> Message:
    stranger = copy.deepcopy(reply)
    stranger.metadata.__dict__["_reply_to_message_id"] = "another-run"
    return stranger


def _spoiled(reply: Message, fault: Fault) -> Message:
    if fault is Fault.WRONG_SITE:
        reply.content = reply_header(reply.content, site="elsewhere")
        return reply
    tensors = next((r for r in reply.content.values() if isinstance(r, ArrayRecord)), None)
    if not tensors:
        reply.content["fedvol"] = ConfigRecord({"json": "{"})
        return reply
    name, array = next(iter(tensors.items()))
    if fault is Fault.CORRUPT:
        data = array.data[:-1]
    else:
        data = np.full(array.shape, np.nan, dtype=np.dtype(array.dtype)).tobytes()
    tensors[name] = Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=data)
    return reply
