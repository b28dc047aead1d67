"""Signed calls of the server's own routes: which site calls what, when, and only once.

TLS may end at a hospital's proxy, so a call proves itself: its header `Fedvol-Call` holds who
calls, method, path, what the body is said to be, the time and a number used once, under the
signature of the site's identity key.
"""

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Protocol, final

from pydantic import Field, ValidationError

from fedvol.config.base import Section
from fedvol.errors import CallRefusedError, IdentityError, MessageError
from fedvol.identity import IdentityKey, PublicKey, SignedBody, Tag
from fedvol.plan import canonical_json
from fedvol.transport.network.call_memory import CallMemory
from fedvol.types import SiteId

HEADER = "fedvol-call"
TOLERANCE = timedelta(minutes=5)
"""How far the clocks of site and server may differ."""

REMEMBERED = 2 * TOLERANCE
"""How long a call is remembered: one made by a clock that is ahead stays fresh that long."""

_MAX_HEADER_CHARS = 4096


class Call(Section):
    """One call of one route."""

    version: Literal[1] = 1
    """Of this form."""
    site: str
    """Who calls."""
    method: str
    """HTTP method."""
    path: str
    """Path, without a query; our routes have none."""
    offset: int | None = None
    """At which byte of a blob the body begins, where there is one."""
    size_bytes: int = 0
    """Bytes of the body."""
    time: str
    """When, ISO 8601, UTC."""
    nonce: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    """Sixteen random bytes, used once."""


class SiteKeys(Protocol):
    """Who may call: the sites of the roster that are active now."""

    def identity(self, site: SiteId) -> PublicKey | None:
        """Key of an active site; None of any other."""
        ...


def _utc_now() -> datetime:
    return datetime.now(UTC)


def sign_call(
    key: IdentityKey,
    *,
    site: SiteId,
    method: str,
    path: str,
    offset: int | None = None,
    size_bytes: int = 0,
    now: Callable[[], datetime] = _utc_now,
) -> dict[str, str]:
    """The header of a call.

    Args:
        key: The site's identity.
        site: Its name.
        method: HTTP method.
        path: Path of the route.
        offset: At which byte of a blob the body begins, where there is one.
        size_bytes: Bytes of the body.
        now: Gives the time, UTC.
    """
    call = Call(
        site=site,
        method=method,
        path=path,
        offset=offset,
        size_bytes=size_bytes,
        time=now().isoformat(),
        nonce=secrets.token_hex(16),
    )
    body = SignedBody.sign(key, Tag.CALL, canonical_json(call.model_dump(mode="json")).decode())
    return {HEADER: base64.urlsafe_b64encode(body.to_bytes()).decode()}


@final
class CallGuard:
    """Lets a call through once, if an active site signed it for this route, and just now.

    Args:
        keys: Who may call.
        remembered_in: File of the calls made lately, so that the next process refuses them too;
            None: this one forgets them when it ends.
        now: Gives the time, UTC.

    Raises:
        StoreError: The file cannot be read or written.
    """

    def __init__(
        self,
        keys: SiteKeys,
        *,
        remembered_in: Path | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._keys = keys
        self._now = now
        self._made = CallMemory(remembered_in, keep=REMEMBERED)

    def admit(self, headers: Mapping[str, str], *, method: str, path: str) -> Call:
        """The call, once it is certain whose it is.

        Raises:
            CallRefusedError: It is not signed, by nobody active, for another route, too old or
                too new, or was made before.
            StoreError: It cannot be remembered.
        """
        try:
            body = self._body(headers.get(HEADER, ""))
            claimed = Call.model_validate_json(body.payload)  # only to find the key
            key = self._keys.identity(SiteId(claimed.site))
            if key is None:
                raise self._refused("no active site of this name")
            body.open(Tag.CALL, signer=key, where="call")
        except (MessageError, IdentityError, ValidationError) as error:
            raise self._refused("its signature does not hold") from error
        if (claimed.method, claimed.path) != (method, path):
            raise self._refused("it was signed for another route")
        self._require_fresh(claimed)
        return claimed

    def _body(self, text: str) -> SignedBody:
        if not text or len(text) > _MAX_HEADER_CHARS:
            raise self._refused("it is not signed")
        try:
            data = base64.urlsafe_b64decode(text.encode())
        except (binascii.Error, ValueError) as error:
            raise self._refused("its signature cannot be read") from error
        return SignedBody.parse(data, where="call", limit_bytes=_MAX_HEADER_CHARS)

    def _require_fresh(self, call: Call) -> None:
        now = self._now()
        try:
            made = datetime.fromisoformat(call.time)
            is_near = abs(now - made) <= TOLERANCE
        except (ValueError, TypeError) as error:
            raise self._refused("its time cannot be read") from error
        if not is_near:
            raise self._refused("it is too old or too new; the clocks may differ")
        if not self._made.is_new(call.nonce, now=now):
            raise self._refused("it was made before")

    def _refused(self, what: str) -> CallRefusedError:
        return CallRefusedError(
            "call of the server",
            what,
            "See that the site is in the current roster and its clock is right.",
        )
