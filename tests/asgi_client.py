"""Calls an ASGI app without a socket."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx


class AsgiClient:
    """One app.

    Args:
        app: The app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """GET a path."""
        return self.request("GET", path, headers=headers)

    def post(
        self, path: str, *, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """POST some bytes."""
        return self.request("POST", path, content=content, headers=headers)

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> httpx.Response:
        """Call it from an address, and wait for the whole answer."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app, client=(address, 50_000))
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.request(method, path, content=content, headers=headers)

        return asyncio.run(send())
