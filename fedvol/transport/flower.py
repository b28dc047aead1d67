"""Flower apps and the `Link` over a Flower grid."""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from fedvol.errors import (
    FedvolError,
    IdentityError,
    MessageError,
    SiteFailedError,
    TransportError,
)
from fedvol.federation import Action, Link, Reply, Request
from fedvol.transport.carriers import (
    Handle,
    InlineServer,
    InlineSite,
    ServerCarrier,
    SiteCarrier,
)
from fedvol.transport.clock import Clock, SystemClock
from fedvol.transport.engine import (
    APP_FAILED_CODE,
    NODE_GONE_CODES,
    ClientApp,
    Context,
    Error,
    Grid,
    Message,
    RecordDict,
    ServerApp,
)
from fedvol.types import SiteId

SITE_KEY = "site"
"""Key of a node's configuration under which it finds its own name."""

POLL_S = 1.0
"""Seconds between two looks for replies."""

_log = logging.getLogger(__name__)


@runtime_checkable
class HasClock(Protocol):
    """A grid that brings its own time, such as the in-process one."""

    @property
    def clock(self) -> Clock:
        """The time by which its replies arrive."""
        ...


def make_client_app(handle: Handle, *, carrier: SiteCarrier | None = None) -> ClientApp:
    """A ClientApp that answers every action with `handle`.

    An error that `handle` lets through becomes a fixed reply without any text of its own; what
    happened is in the site's log.

    Args:
        handle: The site's agent.
        carrier: Understands messages and makes them; None: tensors are in them.
    """
    app = ClientApp()
    carried = carrier or InlineSite()

    def answer(message: Message, context: Context) -> Message:
        return _answer(handle, carried, message, context)

    decorators = {"query": app.query, "train": app.train, "evaluate": app.evaluate}
    for action in Action:
        category, _, name = action.value.partition(".")
        decorators[category](name)(answer)
    return app


def make_server_app(main: Callable[[Link], None]) -> ServerApp:
    """A ServerApp that hands `main` a link to the nodes that are there, by their names."""
    app = ServerApp()

    def run(grid: Grid, context: Context) -> None:
        del context
        main(FlowerLink(grid))

    app.main()(run)
    return app


def failed_reply(message: Message, reason: str = "") -> Message:
    """Flower's answer of an app that raised.

    Args:
        message: What it was asked.
        reason: Why, for a simulation alone: it leaves the site.
    """
    return Message(Error(APP_FAILED_CODE, reason), reply_to=message)


def node_context(node: int, config: Mapping[str, str], *, run: int) -> Context:
    """What an app is told of the node it runs at."""
    return Context(
        run_id=run, node_id=node, node_config={**config}, state=RecordDict(), run_config={}
    )


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
        awaits_return: Whether a site whose node is gone is asked again once it is back, within
            the request's limit; in one process nothing comes back.
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
            _Waiting(request=request, deadline_s=now_s + request.limit_s)
            for request in sorted(requests, key=lambda one: one.site)
        ]
        pending: dict[str, _Asked] = {}
        while waiting or pending:
            absent = self._push_all(waiting, pending)
            if not self._awaits_return:
                yield from (_failed(one.request, TransportError) for one in absent)
                absent = []
            waiting = absent
            # A reply is accepted if it is there at a look begun within its limit, or at the first
            # look after it: the reader of this iterator may have taken its time.
            now_s = self._clock.now_s()
            arrived = False
            # One at a time, so that one reply's tensors are in memory and not all sites'.
            for message_id in tuple(pending):
                for message in self._pull(message_id):
                    asked = pending.pop(message.metadata.reply_to_message_id, None)
                    if asked is None:
                        _log.warning("reply.stranger")
                        continue
                    arrived = True
                    if self._awaits_return and _is_gone(message):
                        waiting.append(asked.waiting)
                    else:
                        reply = self._reply(message, asked)
                        yield reply
                        self._carrier.release(reply)
            for message_id in [key for key, one in pending.items() if one.deadline_s <= now_s]:
                del pending[message_id]
            waiting = [one for one in waiting if one.deadline_s > now_s]
            if (pending or waiting) and not arrived:
                first = min(one.deadline_s for one in (*pending.values(), *waiting))
                self._clock.wait(max(0.0, min(self._poll_s, first - now_s)))

    def _push_all(
        self, waiting: Sequence["_Waiting"], pending: dict[str, "_Asked"]
    ) -> list["_Waiting"]:
        """Push to every site whose node is there; returns what could not be pushed."""
        if not waiting:
            return []
        nodes = self._nodes()
        absent: list[_Waiting] = []
        for one in waiting:
            asked = self._push(one, nodes.get(one.request.site))
            if asked is None:
                absent.append(one)
            else:
                pending[asked.message_id] = asked
        return absent

    def _push(self, waiting: "_Waiting", node: int | None) -> "_Asked | None":
        left_s = waiting.deadline_s - self._clock.now_s()
        if node is None or left_s <= 0:
            return None
        request = waiting.request
        content, bytes_down = self._carrier.encode(request)
        message = Message(content, node, request.action.value, ttl=left_s)
        with _translated():
            message_ids = list(self._grid.push_messages([message]))
        if len(message_ids) != 1 or not message_ids[0]:
            return None
        return _Asked(
            request=request,
            message_id=message_ids[0],
            deadline_s=waiting.deadline_s,
            bytes_down=bytes_down,
        )

    def _reply(self, message: Message, asked: "_Asked") -> Reply:
        if message.has_error():
            kind = TransportError if _is_gone(message) else SiteFailedError
            return _failed(asked.request, kind)
        try:
            return self._carrier.decode(
                message.content, request=asked.request, bytes_down=asked.bytes_down
            )
        except (MessageError, IdentityError) as error:
            site = asked.request.site
            _log.warning("reply.malformed", extra={"site": site, "what": error.what})
            return _failed(asked.request, type(error))

    def _pull(self, message_id: str) -> Sequence[Message]:
        with _translated():
            return list(self._grid.pull_messages([message_id]))

    def _nodes(self) -> dict[SiteId, int]:
        with _translated():
            nodes = list(self._grid.get_nodes())
        if self._roster is None:
            return {SiteId(node.name): node.node_id for node in nodes if node.name}
        present = {node.node_id for node in nodes}
        return {site: node for site, node in self._roster.items() if node in present}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    request: Request
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    request: Request
    message_id: str
    deadline_s: float
    bytes_down: int

    @property
    def waiting(self) -> _Waiting:
        return _Waiting(request=self.request, deadline_s=self.deadline_s)


def _answer(handle: Handle, carrier: SiteCarrier, message: Message, context: Context) -> Message:
    try:
        site = SiteId(str(context.node_config.get(SITE_KEY, "")))
        content = carrier.answer(
            handle, message.content, site=site, action=message.metadata.message_type
        )
        return Message(content, reply_to=message)
    except Exception:  # noqa: BLE001  # nothing of it may leave: the text can name a patient
        _log.exception("site.failed")
        return failed_reply(message, SiteFailedError.code)


def _is_gone(message: Message) -> bool:
    return message.has_error() and message.error.code in NODE_GONE_CODES


def _failed(request: Request, kind: type[FedvolError]) -> Reply:
    return Reply(
        run=request.run,
        stage=request.stage,
        round=request.round,
        site=request.site,
        action=request.action,
        code=kind.code,
        title=kind.title,
        tensors={},
        values={},
        bytes_up=0,
        bytes_down=0,
    )


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
