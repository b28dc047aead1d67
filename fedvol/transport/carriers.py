"""How requests and answers become Flower records: inline in one process, signed over a network.

Each end has a seam of its own. Inline, tensors are in the message and nobody needs to prove who
they are. Over a network (`signed_server`, `signed_site`) a message is a signed header, and tensors
travel beside it.
"""

from collections.abc import Callable
from typing import Protocol, final

from fedvol.federation import Reply, Request
from fedvol.privacy import Contribution
from fedvol.transport.engine import ArrayRecord, RecordDict
from fedvol.transport.headers import malformed
from fedvol.transport.wire import (
    decode_reply,
    decode_request,
    encode_contribution,
    encode_request,
    encode_state,
    size_bytes,
)
from fedvol.types import SiteId, State

Handle = Callable[[SiteId, Request], Contribution]
"""A site's answer to a request."""


class ServerCarrier(Protocol):
    """The server's end."""

    def encode(self, request: Request) -> tuple[RecordDict, int]:
        """A request as records, and how many bytes go down for it.

        Args:
            request: What a site is asked.
        """
        ...

    def decode(self, content: RecordDict, *, request: Request, bytes_down: int) -> Reply:
        """The answer to a request.

        Raises:
            MessageError: It is malformed, or answers something else.
            SignatureError: It is not from the site that was asked.
        """
        ...

    def release(self, reply: Reply) -> None:
        """Let go of an answer's tensors, which are not read any more."""
        ...


class SiteCarrier(Protocol):
    """A site's end."""

    def answer(
        self, handle: Handle, content: RecordDict, *, site: SiteId, action: str
    ) -> RecordDict:
        """What goes back for the records of a request.

        Args:
            handle: The site's agent.
            content: What came.
            site: Name of the site.
            action: What the message asks for by its type.

        Raises:
            MessageError: The request is malformed, or meant for another site or action.
            SignatureError: It is not from the server.
        """
        ...


@final
class InlineServer:
    """Tensors in the message; one state goes to many sites and is encoded once."""

    def __init__(self) -> None:
        self._last: tuple[State, ArrayRecord] | None = None

    def encode(self, request: Request) -> tuple[RecordDict, int]:
        """A request as records, and how many bytes go down for it."""
        if self._last is None or self._last[0] is not request.state:
            self._last = (request.state, encode_state(request.state))
        content = encode_request(request, tensors=self._last[1])
        return content, size_bytes(content)

    def decode(self, content: RecordDict, *, request: Request, bytes_down: int) -> Reply:
        """The answer to a request."""
        self._last = None  # everybody was asked
        return decode_reply(content, request=request, bytes_down=bytes_down)

    def release(self, reply: Reply) -> None:
        """Nothing is held but the reply itself."""
        del reply


@final
class InlineSite:
    """Tensors in the message."""

    def answer(
        self, handle: Handle, content: RecordDict, *, site: SiteId, action: str
    ) -> RecordDict:
        """What goes back for the records of a request."""
        request = decode_request(content)
        require_meant(request, site=site, action=action)
        return encode_contribution(handle(site, request), request=request)


def require_meant(request: Request, *, site: SiteId, action: str) -> None:
    """Refuse a request for another site, or of another action than its message's type.

    Raises:
        MessageError: It is one.
    """
    if request.site != site or request.action.value != action:
        raise malformed("it is meant for another site or action")
