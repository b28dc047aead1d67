"""`SignedServer`: the server's end of a network link. It signs, and believes signatures alone."""

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import final

from fedvol.audit import UNNAMED, AuditSink
from fedvol.errors import BlobDamagedError, FedvolError, SignatureError
from fedvol.federation import Reply, Request
from fedvol.identity import IdentityKey, PublicKey, SignedBody, Tag
from fedvol.store import StateOnDisk, write_state
from fedvol.transport.engine import RecordDict
from fedvol.transport.headers import (
    ReplyHeader,
    TensorFile,
    malformed,
    request_header,
)
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.transport.network.calls import SiteKeys
from fedvol.transport.network.message_lines import (
    carried_bytes,
    reply_refused,
    reply_taken,
    request_sent,
)
from fedvol.transport.network.signed_records import (
    digest_of,
    from_records,
    open_header,
    sign_header,
    to_records,
)
from fedvol.types import Digest, SiteId, State

_NO_TENSORS: State = MappingProxyType({})


@final
class SignedServer:
    """Makes requests under the server's signature and takes answers under their site's.

    Args:
        key: The server's identity.
        sites: Identities of the active sites.
        blobs: Where weights lie on their way.
        max_bytes: Largest file of tensors that can be an answer.
        audit: Where each request is written down before it goes, and each answer before it is used.
        answered: Told of each answer that was taken, before it is used: the question, the digest of
            the answer as signed, and of the file of tensors it names.
    """

    def __init__(
        self,
        key: IdentityKey,
        *,
        sites: SiteKeys,
        blobs: BlobFolder,
        max_bytes: int,
        audit: AuditSink,
        answered: Callable[[Request, Digest, Digest | None], None] | None = None,
    ) -> None:
        self._answered = answered
        self._audit = audit
        self._key = key
        self._sites = sites
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._last: tuple[State, TensorFile | None] | None = None
        self._asked: dict[SiteId, Digest] = {}
        self._brought: dict[SiteId, Digest] = {}

    def encode(self, request: Request) -> tuple[RecordDict, int]:
        """A request as records, and how many bytes go down for it.

        Raises:
            AuditError: It cannot be written down; nothing goes.
        """
        header = request_header(request, tensors=self._give_out(request.state))
        body = sign_header(self._key, Tag.REQUEST, header)
        digest = digest_of(body)
        if self._asked.get(request.site) != digest:
            # What the site brought for another question is of no use any more.
            self._blobs.expect(request.site, max_bytes=self._max_bytes)
            self._asked[request.site] = digest
        self._audit.append(request_sent(body, header))
        return to_records(body), carried_bytes(body, header)

    def decode(self, content: RecordDict, *, request: Request, bytes_down: int) -> Reply:
        """The answer to a request; its tensors are read one by one from the file that came.

        Raises:
            MessageError: It is malformed, or answers something else.
            SignatureError: It is not from the site that was asked.
            AuditError: It cannot be written down; nothing of it is used.
        """
        try:
            body, header, reply = self._taken(content, request=request, bytes_down=bytes_down)
        except FedvolError as error:
            asked = self._asked.get(request.site, UNNAMED)
            self._audit.append(
                reply_refused(content, request=request, asked=asked, code=error.code)
            )
            raise
        self._audit.append(reply_taken(body, header))
        if self._answered is not None:
            tensors = Digest(header.tensors.digest) if header.tensors else None
            self._answered(request, digest_of(body), tensors)
        return reply

    def release(self, reply: Reply) -> None:
        """Remove the file that an answer's tensors came in."""
        digest = self._brought.pop(reply.site, None)
        if digest is not None:
            self._blobs.remove(reply.site, digest)

    def _taken(
        self, content: RecordDict, *, request: Request, bytes_down: int
    ) -> tuple[SignedBody, ReplyHeader, Reply]:
        body = from_records(content)
        header = open_header(
            body,
            Tag.REPLY,
            ReplyHeader,
            signer=self._identity(request.site),
            where=f"answer of {request.site}",
        )
        if header.request != self._asked.get(request.site):
            raise malformed("the reply answers another question than was asked")
        reply = header.reply(
            _NO_TENSORS,
            request=request,
            bytes_up=carried_bytes(body, header),
            bytes_down=bytes_down,
        )
        if header.tensors is not None:
            reply = replace(reply, tensors=self._take(request, header.tensors))
        return body, header, reply

    def _give_out(self, state: State) -> TensorFile | None:
        """The file of a state; one state goes to many sites and is written once."""
        if self._last is None or self._last[0] is not state:
            self._last = (state, self._written(state) if state else None)
        return self._last[1]

    def _written(self, state: State) -> TensorFile:
        folder = self._blobs.down(Digest("0" * 64)).parent
        incoming = folder / "outgoing"
        digest = write_state(incoming, state.items(), metadata={})
        target = self._blobs.down(digest)
        for other in folder.glob("*.safetensors"):
            if other != target:
                other.unlink()
        incoming.replace(target)
        return TensorFile(digest=digest, size_bytes=target.stat().st_size)

    def _take(self, request: Request, tensors: TensorFile) -> State:
        digest = Digest(tensors.digest)
        path = self._blobs.up(request.site, digest)
        if not path.is_file() or path.stat().st_size != tensors.size_bytes:
            raise malformed("its tensors did not come")
        try:
            state = StateOnDisk(path)
        except BlobDamagedError as error:
            raise malformed("its tensors are no tensors") from error
        self._brought[request.site] = digest
        return state

    def _identity(self, site: SiteId) -> PublicKey:
        key = self._sites.identity(site)
        if key is None:
            raise SignatureError(
                f"answer of {site}",
                "the site is not active in the roster any more",
                "Nothing of it is used; see why the site was suspended or revoked.",
            )
        return key
