"""`Refusals`: callers that were turned away, however many, in few lines of the audit log."""

import threading
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, final

from fedvol.audit import AuditSink, CallersRefused
from fedvol.identity import write_moment
from fedvol.server.calls import caller_address
from fedvol.transport.network.public_gate import Asgi, Receive, Scope, Send

EVERY: Final = timedelta(minutes=10)
"""Between two lines about one address and status."""

MAX_NAMED: Final = 20
"""Addresses, each with one status, that have lines of their own at one time."""

OTHERS: Final = "others"
"""Stands for all addresses beyond those."""

_PUBLIC: Final = frozenset({400, 401, 403, 411, 413, 429})
_INNER: Final = ("/v1/", "/fedvol/operator/")
"""What the private port has; the public one only those of Flower's routes that sites need."""


@dataclass(slots=True)
class _Count:
    first: datetime
    last: datetime
    num: int = 0
    written: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        return self.written is None or now - self.written >= EVERY


def is_public_refusal(path: str, status: int) -> bool:
    """Whether the public port turned a caller away by this answer.

    A path that is not there is none, unless it is one of Flower's or of operators: whoever asks
    the public port for those tries to rule the server.
    """
    return status in _PUBLIC or (status == 404 and path.startswith(_INNER))


def is_private_refusal(_path: str, status: int) -> bool:
    """The same of the private port, which tells users that lack a role 403."""
    return status == 401


@final
class Refusals:
    """Counts refusals by port, address and status, and writes the counts down.

    To count touches no disk: a rush of strangers keeps nobody waiting. A process that is killed
    takes with it what it had not written yet.

    Args:
        audit: Where they are written down.
        now: Gives the time, UTC.
    """

    def __init__(
        self, audit: AuditSink, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._audit = audit
        self._now = now
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, int], _Count] = {}

    def count(self, *, port: str, address: str, status: int) -> None:
        """One more.

        Args:
            port: `public` or `private`.
            address: Where it came from.
            status: The HTTP status that was the answer.
        """
        now = self._now()
        with self._lock:
            key = (port, address, status)
            if key not in self._counts:
                named = sum(known != OTHERS for _, known, _ in self._counts)
                key = key if named < MAX_NAMED else (port, OTHERS, status)
            count = self._counts.setdefault(key, _Count(first=now, last=now))
            count.first = count.first if count.num else now
            count.last = now
            count.num += 1

    def write(self, *, is_closing: bool = False) -> None:
        """Write down what is due: of a new address at once, of the others after `EVERY`.

        Args:
            is_closing: Whether everything is due.

        Raises:
            AuditError: It cannot be written; it is kept for the next time.
        """
        now = self._now()
        with self._lock:
            due = [
                (key, count, self._event(key, count))
                for key, count in self._counts.items()
                if count.num and (is_closing or count.is_due(now))
            ]
            self._counts = {
                key: count
                for key, count in self._counts.items()
                if count.num or not count.is_due(now)
            }
        for _, count, event in due:
            self._audit.append(event)
            with self._lock:  # others may have come meanwhile
                count.num -= event.count
                count.first, count.written = now, now

    def _event(self, key: tuple[str, str, int], count: _Count) -> CallersRefused:
        port, address, status = key
        return CallersRefused(
            port=port,
            address=address,
            status=status,
            count=count.num,
            first=write_moment(count.first),
            last=write_moment(count.last),
        )

    def watched(self, app: Asgi, *, port: str, is_refusal: Callable[[str, int], bool]) -> Asgi:
        """An app whose refusals are counted.

        Args:
            app: The app.
            port: Which port it is behind.
            is_refusal: Whether an answer is one, by the path and the HTTP status.
        """

        async def watching(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    status: int = message["status"]
                    if is_refusal(scope["path"], status):
                        self.count(port=port, address=caller_address(scope), status=status)
                await send(message)

            await app(scope, receive, sending if scope["type"] == "http" else send)

        return watching
