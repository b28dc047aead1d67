"""Signed messages as lines of the audit log, the same at both ends."""

from fedvol.audit import UNNAMED, AnswerSent, ReplyReceived, RequestReceived, RequestSent
from fedvol.errors import MessageError
from fedvol.federation import Request
from fedvol.identity import SignedBody
from fedvol.transport.engine import RecordDict
from fedvol.transport.headers import ReplyHeader, RequestHeader
from fedvol.transport.network.signed_records import digest_of, from_records
from fedvol.types import Digest, SiteId


def carried_bytes(body: SignedBody, header: RequestHeader | ReplyHeader) -> int:
    """Bytes of a message as it is carried, its tensors included."""
    return len(body.to_bytes()) + (header.tensors.size_bytes if header.tensors else 0)


def request_sent(body: SignedBody, header: RequestHeader) -> RequestSent:
    """A request, before it goes."""
    return RequestSent(
        message=digest_of(body),
        site=header.site,
        run=header.run,
        plan=Digest(header.plan),
        stage=header.stage,
        round=header.round,
        action=header.action.value,
        tensors=_tensors(header),
        size_bytes=carried_bytes(body, header),
    )


def request_received(body: SignedBody, header: RequestHeader) -> RequestReceived:
    """A request whose signature held, and which is meant for this site."""
    return RequestReceived(
        message=digest_of(body),
        sender_key=body.signer.fingerprint,
        site=header.site,
        run=header.run,
        plan=Digest(header.plan),
        stage=header.stage,
        round=header.round,
        action=header.action.value,
        tensors=_tensors(header),
        size_bytes=carried_bytes(body, header),
    )


def request_turned_away(
    content: RecordDict, *, site: SiteId, action: str, code: str
) -> RequestReceived:
    """What came and is not answered; nothing of what it says is repeated.

    Args:
        content: What came.
        site: The site that it came to.
        action: What the message asks for by its type.
        code: Why it was turned away.
    """
    body = _body(content)
    return RequestReceived(
        message=digest_of(body) if body else UNNAMED,
        sender_key=body.signer.fingerprint if body else "",
        site=site,
        run="",
        plan=UNNAMED,
        stage=0,
        round=0,
        action=action,
        tensors=UNNAMED,
        size_bytes=len(body.to_bytes()) if body else 0,
        code=code,
    )


def answer_sent(body: SignedBody, header: ReplyHeader, *, contribution: Digest) -> AnswerSent:
    """An answer, before it is kept and leaves."""
    return AnswerSent(
        message=digest_of(body),
        request=Digest(header.request),
        contribution=contribution,
        site=header.site,
        run=header.run,
        plan=Digest(header.plan),
        stage=header.stage,
        round=header.round,
        action=header.action.value,
        tensors=_tensors(header),
        size_bytes=carried_bytes(body, header),
    )


def reply_taken(body: SignedBody, header: ReplyHeader) -> ReplyReceived:
    """An answer of the site that was asked, whole."""
    return ReplyReceived(
        message=digest_of(body),
        request=Digest(header.request),
        site=header.site,
        sender_key=body.signer.fingerprint,
        run=header.run,
        plan=Digest(header.plan),
        stage=header.stage,
        round=header.round,
        action=header.action.value,
        tensors=_tensors(header),
        size_bytes=carried_bytes(body, header),
    )


def reply_refused(
    content: RecordDict, *, request: Request, asked: Digest, code: str
) -> ReplyReceived:
    """What came back and is not used; nothing of what it says is repeated.

    Args:
        content: What came.
        request: What was asked.
        asked: Digest of the message that asked it.
        code: Why it was refused.
    """
    body = _body(content)
    return ReplyReceived(
        message=digest_of(body) if body else UNNAMED,
        request=asked,
        site=request.site,
        sender_key=body.signer.fingerprint if body else "",
        run=request.run,
        plan=request.plan,
        stage=request.stage,
        round=request.round,
        action=request.action.value,
        tensors=UNNAMED,
        size_bytes=len(body.to_bytes()) if body else 0,
        code=code,
    )


def _tensors(header: RequestHeader | ReplyHeader) -> Digest:
    return Digest(header.tensors.digest) if header.tensors else UNNAMED


def _body(content: RecordDict) -> SignedBody | None:
    try:
        return from_records(content)
    except MessageError:
        return None
