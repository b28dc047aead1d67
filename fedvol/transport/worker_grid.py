"""`WorkerGrid`: a Flower grid whose sites work in other processes, several at a time.

Replies arrive in the order in which they are ready; whoever sums them sorts by site. A worker is
relieved of one reply at a time, so the server's process holds one update however many sites
there are. Faults can be put in the way as in the in-process grid.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from fedvol.transport.engine import Context, Message
from fedvol.transport.faults import (
    Fault,
    Faults,
    afterwards,
    from_nobody,
    instead,
    no_fault,
)
from fedvol.transport.simulated_grid import SimulatedGrid, named
from fedvol.transport.wire import peek_request
from fedvol.types import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a message that workers were given.

    Attributes:
        message: The message.
        reply: The site's reply; None: its worker is gone.
        what: Why it is gone, in words without a full stop.
    """

    message: Message
    reply: Message | None
    what: str = ""


class Workers(Protocol):
    """Processes that run the client app of any site they are given a message for."""

    def begin(self, message: Message, *, context: Context) -> None:
        """Take a message for the node of a context; return at once."""
        ...

    def next_answer(self) -> Answer:
        """Wait for what becomes of any message that was taken and not answered yet."""
        ...


OnFailure = Callable[[SiteId, str], None]
"""Hears of a site whose worker is gone or whose app failed, and the words told of it."""


@final
class WorkerGrid(SimulatedGrid):
    """Flower nodes whose messages are answered by workers.

    Args:
        workers: Who answers.
        sites: Names of the sites; nodes are numbered in their sorted order.
        node_config: What the app is told of its node beside the site's name.
        faults: What goes wrong; None: nothing.
        on_failure: Hears of sites that fail, before their reply is handed on.
    """

    def __init__(
        self,
        workers: Workers,
        *,
        sites: Sequence[SiteId],
        node_config: Mapping[SiteId, Mapping[str, str]] | None = None,
        faults: Faults | None = None,
        on_failure: OnFailure,
    ) -> None:
        super().__init__(sites=sites, clock=_WaitingForWorkers(self), node_config=node_config)
        self._workers = workers
        self._faults = faults or no_fault
        self._on_failure = on_failure
        self._working: dict[str, Fault | None] = {}
        self._arrived: dict[str, list[Message]] = {}

    @property
    def is_working(self) -> bool:
        """Whether a message is with the workers."""
        return bool(self._working)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to one of these that have arrived; none, if the workers must be waited for."""
        for message_id in message_ids:
            if message_id in self._arrived:
                return self._arrived.pop(message_id)
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Wait for every reply that will arrive; no limit but the messages' own."""
        del timeout
        ids = list(self.push_messages(messages))
        replies: list[Message] = []
        while True:
            while arrived := list(self.pull_messages(ids)):
                replies.extend(arrived)
            if not self._working:
                return replies
            self.receive()

    def receive(self) -> None:
        """Wait for one answer of the workers."""
        answer = self._workers.next_answer()
        message, reply = answer.message, answer.reply
        site = self._sites[message.metadata.dst_node_id]
        message_id = message.metadata.message_id
        fault = self._working.pop(message_id)
        if reply is None:
            self._on_failure(site, answer.what)
            arrived = [from_nobody(message)]
        else:
            if reply.has_error():
                self._on_failure(site, reply.error.reason or "")
            arrived = afterwards(fault, reply=named(reply))
        if arrived:
            self._arrived[message_id] = arrived

    def _accept(self, message: Message) -> None:
        fault = self._faults(peek_request(message.content))
        early = instead(fault, message=message)
        message_id = message.metadata.message_id
        if early is None:
            self._working[message_id] = fault
            self._workers.begin(message, context=self._contexts[message.metadata.dst_node_id])
        elif early:
            self._arrived[message_id] = [named(reply) for reply in early]


@final
class _WaitingForWorkers:
    """Time that stands still while workers work, so that none counts against another's limit.

    Workers keep their messages' limits themselves. Once no message is with them, what is still
    waited for will never come, and the time passes at once, as in `VirtualClock`.
    """

    def __init__(self, grid: WorkerGrid) -> None:
        self._grid = grid
        self._now_s = 0.0

    def now_s(self) -> float:
        """Seconds that were waited for in vain so far."""
        return self._now_s

    def wait(self, seconds: float) -> None:
        """Wait for an answer, however long it takes; if none can come, let the time pass."""
        if self._grid.is_working:
            self._grid.receive()
        else:
            self._now_s += max(0.0, seconds)
