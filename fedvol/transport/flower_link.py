"""`FlowerLink`: the sites behind a Flower grid, as the round engine asks them."""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, final, runtime_checkable

from fedvol.errors import (
    FedvolError,
    IdentityError,
    MessageError,
    SignatureError,
    SiteFailedError,
    TransportError,
)
from fedvol.federation import Reply, Request
from fedvol.transport.carriers import InlineServer, ServerCarrier
from fedvol.transport.clock import Clock, SystemClock
from fedvol.transport.engine import NODE_GONE_CODES, Grid, Message, NodeInfo
from fedvol.types import SiteId

POLL_S = 1.0
"""Seconds between two looks for replies."""

MAX_UNSIGNED = 3
"""How often a site is asked again because the answer in its name was not under its signature."""

_log = logging.getLogger(__name__)


@runtime_checkable
class HasClock(Protocol):
    """A grid that brings its own time, such as the in-process one."""

    @property
    def clock(self) -> Clock:
        """The time by which its replies arrive."""
        ...


@final
class FlowerLink:
    """The sites behind a Flower grid.

    Replies are told apart by the message they answer, never by what they say of their sender.

    Args:
        grid: Carries the messages.
        roster: Node of each site; None: as the grid names its nodes.
        clock: How to wait; None: the grid's own clock, else the machine's.
        carrier: Makes messages and understands them; None: tensors are in them.
        poll_s: Seconds between two looks for replies.
        awaits_return: Whether the sites are over a network. Then a site whose node is gone or
            signed on anew, or in whose name somebody else answered or anybody says that it failed,
            is asked again within the request's limit; in one process nothing comes back.
    """

    def __init__(
        self,
        grid: Grid,
        roster: Mapping[SiteId, int] | None = None,
        *,
        clock: Clock | None = None,
        carrier: ServerCarrier | None = None,
        poll_s: float = POLL_S,
        awaits_return: bool = False,
    ) -> None:
        self._grid = grid
        self._carrier = carrier or InlineServer()
        self._roster = roster
        self._awaits_return = awaits_return
        self._clock = clock or (grid.clock if isinstance(grid, HasClock) else SystemClock())
        self._poll_s = poll_s

    def sites(self) -> tuple[SiteId, ...]:
        """Sites whose node is there now, sorted.

        Raises:
            TransportError: The grid is down.
        """
        return tuple(sorted(self._nodes()))

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Send requests and yield each reply as it arrives.

        A site that fails, or whose node is not there, yields a reply with a code; a site that
        stays silent until its limit yields nothing; what comes later is dropped.

        Raises:
            TransportError: The grid is down.
            ValueError: A site is asked twice at once.
        """
        if len({request.site for request in requests}) != len(requests):
            raise ValueError("a site is asked twice at once")
        return self._ask(requests)

    def _ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        now_s = self._clock.now_s()
        waiting = [
            _Waiting(request=request, begins_s=now_s, deadline_s=now_s + request.limit_s)
            for request in sorted(requests, key=lambda one: one.site)
        ]
        pending: dict[str, _Asked] = {}
        while waiting or pending:
            nodes = self._nodes() if waiting or self._awaits_return else {}
            if self._awaits_return:
                waiting.extend(_taken_back(pending, nodes))
            absent = self._push_all(waiting, pending, nodes=nodes)
            if not self._awaits_return:
                yield from (Reply.failed(one.request, TransportError) for one in absent)
                absent = []
            waiting = absent
            # A reply is accepted if it is there at a look begun within its limit, or at the first
            # look after it: the reader of this iterator may have taken its time.
            now_s = self._clock.now_s()
            arrived = False
            for message in self._arrivals(pending):
                asked = pending.pop(message.metadata.reply_to_message_id, None)
                if asked is None:
                    _log.warning("reply.stranger")
                    continue
                arrived = True
                reply = self._reply(message, asked)
                if isinstance(reply, _Waiting):
                    waiting.append(reply)
                else:
                    yield reply
                    self._carrier.release(reply)
            for message_id in [
                key for key, one in pending.items() if one.waiting.deadline_s <= now_s
            ]:
                del pending[message_id]
            waiting = [one for one in waiting if one.deadline_s > now_s]
            if (pending or waiting) and not arrived:
                still = (*(one.waiting for one in pending.values()), *waiting)
                first = min(one.deadline_s for one in still)
                self._clock.wait(max(0.0, min(self._poll_s, first - now_s)))

    def _push_all(
        self,
        waiting: Sequence["_Waiting"],
        pending: dict[str, "_Asked"],
        *,
        nodes: Mapping[SiteId, NodeInfo],
    ) -> list["_Waiting"]:
        """Push to every site whose node is there; returns what could not be pushed."""
        absent: list[_Waiting] = []
        for one in waiting:
            asked = self._push(one, nodes.get(one.request.site))
            if asked is None:
                absent.append(one)
            else:
                pending[asked.message_id] = asked
        return absent

    def _push(self, waiting: "_Waiting", node: NodeInfo | None) -> "_Asked | None":
        now_s = self._clock.now_s()
        if node is None or not waiting.begins_s <= now_s < waiting.deadline_s:
            return None
        request = waiting.request
        content, bytes_down = self._carrier.encode(request)
        message = Message(
            content, node.node_id, request.action.value, ttl=waiting.deadline_s - now_s
        )
        with _translated():
            message_ids = list(self._grid.push_messages([message]))
        if len(message_ids) != 1 or not message_ids[0]:
            return None
        return _Asked(
            waiting=waiting,
            message_id=message_ids[0],
            bytes_down=bytes_down,
            signed_on=_signed_on(node),
        )

    def _reply(self, message: Message, asked: "_Asked") -> "Reply | _Waiting":
        """What a site answered; or what is to be asked again."""
        waiting = asked.waiting
        request = waiting.request
        if _is_gone(message):
            return waiting if self._awaits_return else Reply.failed(request, TransportError)
        if message.has_error():
            _log.warning("reply.failed", extra={"site": request.site, "code": message.error.code})
            return self._once_more(waiting) or Reply.failed(request, SiteFailedError)
        try:
            return self._carrier.decode(
                message.content, request=request, bytes_down=asked.bytes_down
            )
        except SignatureError as error:
            _log.warning("reply.forged", extra={"site": request.site, "what": error.what})
            return self._once_more(waiting) or Reply.failed(request, SignatureError)
        except (MessageError, IdentityError) as error:
            _log.warning("reply.malformed", extra={"site": request.site, "what": error.what})
            return Reply.failed(request, type(error))

    def _once_more(self, waiting: "_Waiting") -> "_Waiting | None":
        """The same question, since what came may stand in the place of the site's own answer.

        Each time after a longer pause: whoever answers in the site's name does it at once, and may
        be gone a little later.
        """
        if not self._awaits_return or waiting.num_unsigned == MAX_UNSIGNED:
            return None
        num = waiting.num_unsigned + 1
        begins_s = self._clock.now_s() + self._poll_s * 2**num
        return replace(waiting, num_unsigned=num, begins_s=begins_s)

    def _arrivals(self, pending: Mapping[str, "_Asked"]) -> Iterator[Message]:
        """Whatever has arrived of what is pending, as the reader goes on.

        A grid gives its messages one by one, so that one reply's tensors are in memory and not all
        sites'. Over a network one call tells of all that is there; what comes while the reader is
        at it is for the next look, for limits pass and sites come back meanwhile. A grid in this
        process gives one reply a call, and is asked until it has nothing more.
        """
        is_more = True
        while pending and is_more:
            is_more = False
            for message in self._pull(tuple(pending)):
                is_more = not self._awaits_return
                yield message

    def _pull(self, message_ids: Sequence[str]) -> Iterator[Message]:
        with _translated():
            yield from self._grid.pull_messages(message_ids)

    def _nodes(self) -> dict[SiteId, NodeInfo]:
        with _translated():
            nodes = list(self._grid.get_nodes())
        if self._roster is None:
            return {SiteId(node.name): node for node in nodes if node.name}
        present = {node.node_id: node for node in nodes}
        return {site: present[node] for site, node in self._roster.items() if node in present}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    request: Request
    begins_s: float
    deadline_s: float
    num_unsigned: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    waiting: _Waiting
    message_id: str
    bytes_down: int
    signed_on: tuple[int, str]


def _signed_on(node: NodeInfo) -> tuple[int, str]:
    """A node and since when it is there; another for a node that was away, however briefly."""
    return node.node_id, node.last_activated_at


def _taken_back(pending: dict[str, _Asked], nodes: Mapping[SiteId, NodeInfo]) -> list[_Waiting]:
    """What was asked of nodes that signed on anew since; it may be lost, so it is asked again.

    A message is given to a node once, and nobody notices if the node loses it.
    """
    lost = [
        (message_id, asked)
        for message_id, asked in pending.items()
        if (node := nodes.get(asked.waiting.request.site)) is not None
        and _signed_on(node) != asked.signed_on
    ]
    for message_id, _ in lost:
        del pending[message_id]
    return [asked.waiting for _, asked in lost]


def _is_gone(message: Message) -> bool:
    return message.has_error() and message.error.code in NODE_GONE_CODES


@contextmanager
def _translated() -> Generator[None, None, None]:
    try:
        yield
    except FedvolError:
        raise
    except Exception as error:  # Flower lets through whatever its HTTP client raises
        raise TransportError(
            "link to the sites",
            f"it is down ({type(error).__name__})",
            "Start the server's link again, then resume the run.",
        ) from error
