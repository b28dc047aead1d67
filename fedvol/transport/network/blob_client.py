"""`BlobClient`: a site fetches and brings weights, and goes on where a link was cut."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import final

import httpx

from fedvol.errors import BlobRefusedError
from fedvol.files import digest_file, store_error
from fedvol.identity import IdentityKey
from fedvol.transport.clock import Clock, SystemClock
from fedvol.transport.network.blob_routes import COMPLETE, ELSEWHERE, OFFSET
from fedvol.transport.network.calls import sign_call
from fedvol.transport.network.server_away import link_down, not_admitted, translated
from fedvol.types import Digest, SiteId

PIECE_BYTES = 1 << 20
"""Bytes of one request that brings weights; what a cut link repeats at the most."""

_PARTIAL = 206
_UNAUTHORIZED = 401
_SERVER_ERROR = 500


@final
class BlobClient:
    """One site's calls for weights.

    Args:
        address: Host and port of the server.
        tls: Trusts the server's certificates and nobody else's.
        key: The site's identity.
        site: Its name.
        proxy: URL of the proxy on the way, with its password if it wants one; None: none.
        timeout_s: Longest wait for one answer.
        piece_bytes: Bytes of one request.
        max_mbit_s: Most megabits a second that are brought, on average over pieces; None: no bound.
        clock: How to wait between pieces; None: the machine's.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: ssl.SSLContext,
        key: IdentityKey,
        site: SiteId,
        proxy: str | None = None,
        timeout_s: float = 60.0,
        piece_bytes: int = PIECE_BYTES,
        max_mbit_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._where = f"server {address}"
        self._key = key
        self._site = site
        self._piece_bytes = piece_bytes
        self._pace = _Pace(max_mbit_s, clock or SystemClock())
        self._client = httpx.Client(
            base_url=f"https://{address}", verify=tls, timeout=timeout_s, proxy=proxy
        )

    def fetch(self, digest: Digest, *, size_bytes: int, target: Path) -> None:
        """Fetch a blob into a file; bytes that are there already are not asked for again.

        Args:
            digest: Of all of it.
            size_bytes: As the server's signed word has it; not a byte more is taken.
            target: The file; it is there once it is whole.

        Raises:
            BlobRefusedError: The server does not give it, or gives another one.
            LinkDownError: The link was cut; call again.
            StoreError: It cannot be written.
        """
        if target.is_file() and digest_file(target) == digest:
            return
        part = target.with_suffix(".part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
            if part.stat().st_size > size_bytes:
                part.unlink()
                part.touch()
            self._fetch_rest(digest, size_bytes=size_bytes, part=part)
            if digest_file(part) != digest:
                part.unlink()
                raise self._refused("the server gave other weights than it named")
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)  # on a full disk it would keep the audit log from growing
            raise store_error(target, error) from error

    def bring(
        self,
        path: Path,
        *,
        digest: Digest,
        before_piece: Callable[[], None] = lambda: None,
    ) -> None:
        """Bring a blob; bytes that are there already are not sent again.

        Args:
            path: The file.
            digest: Of its content.
            before_piece: Asked before anything is said to the server, and before each piece; what
                it raises ends the bringing.

        Raises:
            BlobRefusedError: The server does not take it.
            LinkDownError: The link was cut; call again.
        """
        size = path.stat().st_size
        route = f"/fedvol/v1/uploads/{digest}"
        before_piece()
        told = self._call("HEAD", route)
        if told.headers.get(COMPLETE) == "1":
            return
        offset = int(told.headers.get(OFFSET, "0"))
        with path.open("rb") as file:
            file.seek(offset)
            while True:
                piece = file.read(self._piece_bytes)
                is_last = offset + len(piece) >= size
                self._pace.wait(len(piece))
                before_piece()
                self._call("PATCH", route, offset=offset, body=piece, is_last=is_last)
                offset += len(piece)
                if is_last:
                    return

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _fetch_rest(self, digest: Digest, *, size_bytes: int, part: Path) -> None:
        have = part.stat().st_size
        if have == size_bytes:
            return
        route = f"/fedvol/v1/blobs/{digest}"
        headers = sign_call(self._key, site=self._site, method="GET", path=route)
        if have:
            headers["range"] = f"bytes={have}-"
        with (
            translated(self._where),
            self._client.stream("GET", route, headers=headers) as response,
        ):
            self._require_taken(response)
            if have and response.status_code != _PARTIAL:
                raise self._refused("the server does not go on where the link was cut")
            with part.open("ab") as file:
                for chunk in response.iter_bytes(self._piece_bytes):
                    have += len(chunk)
                    if have > size_bytes:
                        raise self._refused("the server gives more than it named")
                    file.write(chunk)
        if have < size_bytes:
            raise self._refused("the server gives less than it named")

    def _call(
        self,
        method: str,
        path: str,
        *,
        offset: int | None = None,
        body: bytes = b"",
        is_last: bool = False,
    ) -> httpx.Response:
        headers = sign_call(
            self._key,
            site=self._site,
            method=method,
            path=path,
            offset=offset,
            size_bytes=len(body),
        )
        if offset is not None:
            headers |= {OFFSET: str(offset), COMPLETE: "1" if is_last else "0"}
        with translated(self._where):
            response = self._client.request(
                method, path, headers=headers, content=body if offset is not None else None
            )
        self._require_taken(response)
        return response

    def _require_taken(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        status = response.status_code
        if status == _UNAUTHORIZED:
            raise not_admitted(self._where)
        if status >= _SERVER_ERROR:
            raise link_down(self._where, f"it answered {status}")
        if status == ELSEWHERE:
            raise link_down(self._where, "a call that was cut has not ended there yet")
        raise self._refused(f"the server answered {status}")

    def _refused(self, what: str) -> BlobRefusedError:
        return BlobRefusedError(
            self._where, what, "The round goes on without this site; the server's log says why."
        )


class _Pace:
    """Spaces pieces so that on average they are no faster than a bound, over cut links too."""

    def __init__(self, max_mbit_s: float | None, clock: Clock) -> None:
        self._seconds_per_byte = 8 / (max_mbit_s * 1e6) if max_mbit_s else 0.0
        self._clock = clock
        self._free_s = clock.now_s()

    def wait(self, size_bytes: int) -> None:
        """Wait until the pieces before this one have had their time."""
        now_s = self._clock.now_s()
        if now_s < self._free_s:
            self._clock.wait(self._free_s - now_s)
        self._free_s = max(now_s, self._free_s) + size_bytes * self._seconds_per_byte
