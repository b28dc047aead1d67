"""`PublicGate`: what the outside world reaches of the server, and how large it may be."""

import base64
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, final

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_FLEET_BYTES = 8 << 20
"""Largest request on Flower's routes: tensors travel apart, so a message is small."""

_FLEET = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
"""Flower's routes that a site needs; not among them: registering itself, and fetching code."""

KEY_HEADER = b"flwr-public-key"
"""Under which a node tells Flower its public key."""

OWN_PREFIX = "/fedvol/v1/"
HEALTH = "/health"


@final
class PublicGate:
    """Passes Flower's routes for sites and our own; everything else is not there.

    Args:
        flower: Flower's app.
        own: The app behind `/fedvol/v1/`, which limits its requests itself.
        admits: Whether the node with this public key, as PEM, may connect; Flower then checks
            that the caller has the key.
    """

    def __init__(self, flower: Asgi, own: Asgi, *, admits: Callable[[bytes], bool]) -> None:
        self._flower = flower
        self._own = own
        self._admits = admits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            # A WebSocket is refused by closing it; a lifespan belongs to the private listener.
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"]
        if path.startswith(OWN_PREFIX):
            await self._own(scope, receive, send)
        elif path in _FLEET and scope["method"] == "POST":
            await self._fleet(scope, receive, send)
        elif path == HEALTH and scope["method"] == "GET":
            await self._flower(scope, receive, send)
        else:
            await answer(send, 404)

    async def _fleet(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        if not self._admits(_key(headers.get(KEY_HEADER, b""))):
            await answer(send, 401)
        elif not declared.isdigit():
            await answer(send, 411)
        elif int(declared) > MAX_FLEET_BYTES:
            await answer(send, 413)
        else:
            # The HTTP server ends a body at its declared length.
            await self._flower(scope, receive, send)


def _key(text: bytes) -> bytes:
    """The public key a node claims; empty if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


async def answer(send: Send, status: int) -> None:
    """An answer without a body."""
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})
