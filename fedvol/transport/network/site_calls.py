"""`SiteCalls`: what a site says to the server's own routes, one call at a time, never again."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, final

import httpx
from pydantic import Field, ValidationError

from fedvol.config.base import Section
from fedvol.config.data import Name
from fedvol.errors import MessageError
from fedvol.identity import IdentityKey
from fedvol.transport.headers import DigestText
from fedvol.transport.network.calls import sign_call
from fedvol.transport.network.server_away import link_down, not_admitted, translated
from fedvol.types import SiteId

MAX_ANSWER_BYTES = 16 << 20
"""Largest answer that is read; weights travel another way."""

_IDLE_S = 2.0
"""Seconds after which an idle connection is used no more: the server closes it after 5, and a call
that crosses with that is lost."""
_ROOT, _HEALTH = "/fedvol/v1", "/health"
_OK, _UNAUTHORIZED, _NOT_FOUND, _SERVER_ERROR = 200, 401, 404, 500
_CODE = re.compile(rb'"code": ?"(FV-[A-Z]+-[0-9]{3})"')


class Listed(Section):
    """One proposal as the server lists it."""

    id: Name
    """Its name."""
    kind: Annotated[str, Field(pattern="^(run|fingerprint)$")]
    """A run, or a fingerprint job."""
    state: Annotated[str, Field(pattern="^[a-z]{1,20}$")]
    """What has become of it."""
    digest: DigestText
    """Digest of the plan, or of what is proposed to be counted."""
    size_bytes: Annotated[int, Field(ge=0)]
    """Size of its content."""
    heard: Annotated[str, Field(pattern="^(approve|refuse|withdraw)?$")]
    """The last word of this site on it that the server holds; empty: none."""


class _List(Section):
    proposals: Annotated[tuple[Listed, ...], Field(max_length=10_000)]


class _Receipts(Section):
    receipts: Annotated[tuple[str, ...], Field(max_length=100_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How the server answered.

    Attributes:
        status: HTTP status.
        code: Error code that it named; empty where it named none.
        body: Bytes of the answer.
        date: What the server's clock says, as HTTP has it; empty where it does not say.
    """

    status: int
    code: str
    body: bytes
    date: str

    @property
    def is_taken(self) -> bool:
        """Whether it was a success."""
        return self.status == _OK


@final
class SiteCalls:
    """One site's calls.

    Args:
        address: Host and port of the server.
        tls: Trusts the server's certificates and nobody else's.
        key: The site's identity.
        site: Its name.
        proxy: URL of the proxy on the way, with its password if it wants one; None: none.
        timeout_s: Longest wait for one answer.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: ssl.SSLContext,
        key: IdentityKey,
        site: SiteId,
        proxy: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._where = f"server {address}"
        self._key = key
        self._site = site
        self._client = httpx.Client(
            base_url=f"https://{address}",
            verify=tls,
            timeout=timeout_s,
            proxy=proxy,
            limits=httpx.Limits(keepalive_expiry=_IDLE_S),
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def enrol(self, body: bytes) -> Answer:
        """Hand over the site's public keys with its token; the body is signed.

        Raises:
            LinkDownError: The server cannot be reached.
        """
        return self._call("POST", "/enrol", body=body, is_signed=False)

    def roster(self) -> bytes | None:
        """The newest roster's bytes; None before the first.

        Raises:
            LinkDownError: The server cannot be reached.
            NotAdmittedError: It does not know this site's key.
            MessageError: It answers something else.
        """
        answer = self._call("GET", "/roster")
        if answer.status == _NOT_FOUND:
            return None
        return self._require_taken(answer).body

    def date(self) -> str:
        """What the server's clock says, as HTTP has it; empty where it does not say.

        Raises:
            LinkDownError: The server cannot be reached.
        """
        return self._send("GET", _HEALTH).date

    def proposals(self) -> tuple[Listed, ...]:
        """What the server puts to this site.

        Raises:
            LinkDownError: The server cannot be reached.
            NotAdmittedError: The site is not let in.
            MessageError: It answers something else.
        """
        body = self._require_taken(self._call("GET", "/proposals")).body
        try:
            return _List.model_validate_json(body).proposals
        except ValidationError as error:
            raise self._malformed("its list of proposals") from error

    def proposal(self, name: str) -> bytes:
        """A proposal's signed bytes.

        Raises:
            LinkDownError: The server cannot be reached.
            NotAdmittedError: The site is not let in.
            MessageError: It answers something else.
        """
        return self._require_taken(self._call("GET", f"/proposals/{name}")).body

    def consent(self, body: bytes) -> Answer:
        """Bring an answer to a proposal; the body is signed too.

        Raises:
            LinkDownError: The server cannot be reached.
            NotAdmittedError: The site is not let in.
        """
        return self._call("POST", "/consents", body=body)

    def progress(self, body: bytes) -> Answer:
        """Tell how far the training under way is; the body is signed too.

        Raises:
            LinkDownError: The server cannot be reached.
            NotAdmittedError: The site is not let in.
        """
        return self._call("POST", "/progress", body=body)

    def receipts(self, run: str) -> tuple[str, ...]:
        """The server's signed words for this site's contributions to a run.

        Raises:
            LinkDownError: The server cannot be reached.
            NotAdmittedError: The site is not let in.
            MessageError: It answers something else.
        """
        body = self._require_taken(self._call("GET", f"/receipts/{run}")).body
        try:
            return _Receipts.model_validate_json(body).receipts
        except ValidationError as error:
            raise self._malformed("its receipts") from error

    def _call(
        self, method: str, route: str, *, body: bytes = b"", is_signed: bool = True
    ) -> Answer:
        path = f"{_ROOT}{route}"
        headers: dict[str, str] = {}
        if is_signed:
            headers = sign_call(
                self._key, site=self._site, method=method, path=path, size_bytes=len(body)
            )
        content = body if method == "POST" else None
        answer = self._send(method, path, headers=headers, content=content)
        if is_signed and answer.status == _UNAUTHORIZED:
            raise not_admitted(self._where)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        with (
            translated(self._where),
            self._client.stream(method, path, headers=headers, content=content) as response,
        ):
            given = bytearray()
            for chunk in response.iter_bytes():
                given += chunk
                if len(given) > MAX_ANSWER_BYTES:
                    raise self._malformed(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        status = response.status_code
        if status >= _SERVER_ERROR:
            raise link_down(self._where, f"it answered {status}")
        return Answer(
            status=status,
            code="" if status == _OK else _code(bytes(given)),
            body=bytes(given),
            date=response.headers.get("date", ""),
        )

    def _require_taken(self, answer: Answer) -> Answer:
        if answer.is_taken:
            return answer
        raise MessageError(
            self._where,
            f"it answered {answer.status} {answer.code}".rstrip(),
            "Compare the versions of server and site; the server's log says why.",
        )

    def _malformed(self, what: str) -> MessageError:
        return MessageError(
            self._where, f"{what} cannot be read", "Compare the versions of server and site."
        )


def _code(body: bytes) -> str:
    """The error code of a refusal, where it is one of ours; nothing else of it is passed on."""
    found = _CODE.search(body)
    return found[1].decode() if found else ""
