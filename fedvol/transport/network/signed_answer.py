"""An answer under the site's signature, written down before it may leave."""

from fedvol.audit import AuditSink
from fedvol.federation import Request
from fedvol.identity import IdentityKey, SignedBody, Tag
from fedvol.privacy import Contribution
from fedvol.transport.headers import TensorFile, reply_header
from fedvol.transport.network.message_lines import answer_sent
from fedvol.transport.network.signed_records import sign_header
from fedvol.types import Digest


def sign_answer(
    contribution: Contribution,
    *,
    key: IdentityKey,
    request: Request,
    request_digest: Digest,
    audit: AuditSink,
    tensors: TensorFile | None = None,
) -> SignedBody:
    """Sign what leaves in answer to a request.

    Args:
        contribution: What the site releases.
        key: The site's identity.
        request: What was asked.
        request_digest: Digest of the request's signed header.
        audit: Where the answer is written down.
        tensors: The file that its tensors travel in.

    Raises:
        AuditError: It cannot be written down.
    """
    said = reply_header(
        contribution, request=request, tensors=tensors, request_digest=request_digest
    )
    body = sign_header(key, Tag.REPLY, said)
    audit.append(answer_sent(body, said, contribution=contribution.digest))
    return body
