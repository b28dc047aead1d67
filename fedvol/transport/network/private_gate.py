"""`PrivateGate`: what the loopback listener serves: operators under our prefix, and the engine."""

from typing import final

from fedvol.transport.network.public_gate import Asgi, Receive, Scope, Send

OPERATOR_PREFIX = "/fedvol/operator/v1/"


@final
class PrivateGate:
    """Passes operators' calls to our app, everything else to the engine.

    Args:
        flower: The engine's app; it asks for the server's secret itself.
        operators: Our app for operators; it asks for a user's token itself.
    """

    def __init__(self, flower: Asgi, operators: Asgi) -> None:
        self._flower = flower
        self._operators = operators

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; the lifespan is the engine's."""
        is_ours = scope["type"] == "http" and scope["path"].startswith(OPERATOR_PREFIX)
        await (self._operators if is_ours else self._flower)(scope, receive, send)
