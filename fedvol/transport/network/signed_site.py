"""`SignedSite`: a site's end of a network link."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar, final

from fedvol.audit import AuditSink
from fedvol.errors import (
    AuditError,
    ConfigError,
    FedvolError,
    LinkDownError,
    PrivacyError,
    StoreError,
)
from fedvol.federation import Action, Request
from fedvol.identity import IdentityKey, PublicKey, SignedBody, Tag
from fedvol.privacy import Contribution
from fedvol.store import StateOnDisk
from fedvol.transport.carriers import Handle, require_meant
from fedvol.transport.clock import Clock
from fedvol.transport.engine import RecordDict
from fedvol.transport.headers import ReplyHeader, RequestHeader, TensorFile
from fedvol.transport.network.message_lines import request_received, request_turned_away
from fedvol.transport.network.outbox import Outbox
from fedvol.transport.network.signed_answer import sign_answer
from fedvol.transport.network.signed_records import (
    digest_of,
    from_records,
    open_header,
    to_records,
)
from fedvol.types import Digest, SiteId, State

_NO_TENSORS: State = MappingProxyType({})
_RETRY_S = 1.0
_MAX_RETRY_S = 20.0
_Found = TypeVar("_Found")


class Blobs(Protocol):
    """How weights come and go; `BlobClient` over the network."""

    def fetch(self, digest: Digest, *, size_bytes: int, target: Path) -> None:
        """Fetch a blob into a file."""
        ...

    def bring(self, path: Path, *, digest: Digest, before_piece: Callable[[], None]) -> None:
        """Bring a blob; `before_piece` is asked before any of it leaves, and raises to end it."""
        ...


class Agreement(Protocol):
    """What a site agrees to; `Gate` of a hospital."""

    def terms(self, request: Request) -> Digest:
        """Digest of what an answer to a request may leave under now.

        Raises:
            FedvolError: The site does not agree to the request.
        """
        ...

    def require_still(self, request: Request, *, terms: Digest) -> None:
        """Refuse to send what was made or kept under terms that do not hold any more.

        Raises:
            FedvolError: They do not.
        """
        ...


@final
class SignedSite:
    """Takes requests under the server's signature and answers under the site's.

    Args:
        key: The site's identity.
        server: The server's identity, as the roster has it.
        blobs: How weights come and go.
        outbox: Folder where answers are kept.
        agreement: What the site agrees to; asked before anything is made, and whenever anything
            leaves.
        audit: Where each request is written down, and each answer before it is kept.
        refuses: The site's refusal of a request that it does not agree to, or whose weights or
            whose answer find no place on its disk; told and released like every other.
        incoming: Folder of weights that came down.
        clock: How to wait where the link is down.
    """

    def __init__(
        self,
        key: IdentityKey,
        *,
        server: PublicKey,
        blobs: Blobs,
        outbox: Path,
        agreement: Agreement,
        audit: AuditSink,
        refuses: Callable[[Request, FedvolError], Contribution],
        incoming: Path,
        clock: Clock,
    ) -> None:
        self._key = key
        self._server = server
        self._blobs = blobs
        self._outbox = outbox
        self._agreement = agreement
        self._audit = audit
        self._refuses = refuses
        self._incoming = incoming
        self._clock = clock

    def answer(
        self, handle: Handle, content: RecordDict, *, site: SiteId, action: str
    ) -> RecordDict:
        """What goes back for the records of a request.

        A training or a judgement that was asked for before has the same answer again, as long as
        the terms hold under which it was given. Health, and whatever was refused, is looked at
        anew.

        Raises:
            MessageError: The request is malformed, or meant for another site or action.
            SignatureError: It is not from the server.
            TransportError: The server was away for longer than the request's limit, or does not
                take the answer's weights.
            AuditError: Request or answer cannot be written down; nothing leaves.
        """
        asked, header = self._received(content, site=site, action=action)
        bare, key = header.request(_NO_TENSORS), digest_of(asked)
        deadline_s = self._clock.now_s() + header.limit_s
        try:
            terms = self._agreement.terms(bare)
            outbox = Outbox.under(self._outbox, run=bare.run, terms=terms)
            body, tensors = self._kept(outbox, key, action=header.action) or self._made(
                handle, header, outbox=outbox, key=key, site=site, deadline_s=deadline_s
            )
            if tensors is not None:
                self._bring(
                    outbox.tensors(key), tensors, request=bare, terms=terms, deadline_s=deadline_s
                )
            return to_records(body)
        except AuditError:
            raise
        except (PrivacyError, ConfigError, StoreError) as error:
            return to_records(self._signed(self._refuses(bare, error), bare, key=key))

    def _received(
        self, content: RecordDict, *, site: SiteId, action: str
    ) -> tuple[SignedBody, RequestHeader]:
        """The request, once it is certain that the server asks this of this site."""
        try:
            asked = from_records(content)
            header = open_header(
                asked,
                Tag.REQUEST,
                RequestHeader,
                signer=self._server,
                where="request of the server",
            )
            require_meant(header.request(_NO_TENSORS), site=site, action=action)
        except FedvolError as error:
            self._audit.append(
                request_turned_away(content, site=site, action=action, code=error.code)
            )
            raise
        self._audit.append(request_received(asked, header))
        return asked, header

    def _kept(
        self, outbox: Outbox, key: Digest, *, action: Action
    ) -> tuple[SignedBody, TensorFile | None] | None:
        body = None if action is Action.HEALTH else outbox.find(key)
        if body is None:
            return None
        header = open_header(
            body, Tag.REPLY, ReplyHeader, signer=self._key.public, where="kept answer"
        )
        if header.tensors is not None and not outbox.holds(key, header.tensors):
            return None
        return body, header.tensors

    def _made(
        self,
        handle: Handle,
        header: RequestHeader,
        *,
        outbox: Outbox,
        key: Digest,
        site: SiteId,
        deadline_s: float,
    ) -> tuple[SignedBody, TensorFile | None]:
        state = self._fetched(header.tensors, deadline_s=deadline_s)
        contribution = handle(site, header.request(state))
        tensors = outbox.write_tensors(key, contribution.tensors)
        request = header.request(_NO_TENSORS)
        body = self._signed(contribution, request, tensors=tensors, key=key)
        if not contribution.code and header.action is Action.HEALTH:
            outbox.put_once(key, body)
        elif not contribution.code:
            outbox.put(key, body)
        return body, tensors

    def _bring(
        self,
        path: Path,
        tensors: TensorFile,
        *,
        request: Request,
        terms: Digest,
        deadline_s: float,
    ) -> None:
        """Bring an answer's tensors; the site may change its mind while they are on their way."""
        self._patiently(
            lambda: self._blobs.bring(
                path,
                digest=Digest(tensors.digest),
                before_piece=lambda: self._agreement.require_still(request, terms=terms),
            ),
            deadline_s=deadline_s,
        )

    def _signed(
        self,
        contribution: Contribution,
        request: Request,
        *,
        key: Digest,
        tensors: TensorFile | None = None,
    ) -> SignedBody:
        return sign_answer(
            contribution,
            key=self._key,
            request=request,
            request_digest=key,
            audit=self._audit,
            tensors=tensors,
        )

    def _fetched(self, tensors: TensorFile | None, *, deadline_s: float) -> State:
        if tensors is None:
            return _NO_TENSORS
        target = self._incoming / f"{tensors.digest}.safetensors"
        for other in self._incoming.glob("*") if self._incoming.is_dir() else ():
            if other.stem != tensors.digest:
                other.unlink()
        self._patiently(
            lambda: self._blobs.fetch(
                Digest(tensors.digest), size_bytes=tensors.size_bytes, target=target
            ),
            deadline_s=deadline_s,
        )
        return StateOnDisk(target)

    def _patiently(self, do: Callable[[], _Found], *, deadline_s: float) -> _Found:
        """Try again while the link is down, until the request's limit has passed."""
        wait_s = _RETRY_S
        while True:
            try:
                return do()
            except LinkDownError:
                if self._clock.now_s() + wait_s > deadline_s:
                    raise
            self._clock.wait(wait_s)
            wait_s = min(2 * wait_s, _MAX_RETRY_S)
