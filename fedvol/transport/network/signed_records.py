"""A signed header as Flower records, and back; nothing of it counts before its signature held."""

import hashlib
from typing import TypeVar

from pydantic import ValidationError

from fedvol.identity import IdentityKey, PublicKey, SignedBody, Tag
from fedvol.plan import canonical_json
from fedvol.transport.engine import ConfigRecord, RecordDict
from fedvol.transport.headers import ReplyHeader, RequestHeader, malformed
from fedvol.types import Digest

MAX_BODY_BYTES = 4 << 20
"""Largest signed header; the sums of a large evaluation are its tensors, not its words."""

_RECORD = "fedvol"
_KEY = "signed"
_HeaderT = TypeVar("_HeaderT", RequestHeader, ReplyHeader)


def sign_header(key: IdentityKey, tag: Tag, header: RequestHeader | ReplyHeader) -> SignedBody:
    """A header under the signature of whoever says it."""
    return SignedBody.sign(key, tag, canonical_json(header.model_dump(mode="json")).decode())


def to_records(body: SignedBody) -> RecordDict:
    """A signed body as records."""
    return RecordDict({_RECORD: ConfigRecord({_KEY: body.to_bytes()})})


def from_records(content: RecordDict) -> SignedBody:
    """The signed body in records, not verified yet.

    Raises:
        MessageError: They hold something else, or too much.
    """
    record = content.get(_RECORD)
    if set(content) != {_RECORD} or not isinstance(record, ConfigRecord) or set(record) != {_KEY}:
        raise malformed("its records are named otherwise than agreed")
    data = record[_KEY]
    if not isinstance(data, bytes):
        raise malformed("it holds no signed header")
    return SignedBody.parse(data, where="message", limit_bytes=MAX_BODY_BYTES)


def open_header(
    body: SignedBody, tag: Tag, kind: type[_HeaderT], *, signer: PublicKey, where: str
) -> _HeaderT:
    """The header, once it is certain that this signer said it.

    Raises:
        MessageError: It does not follow the schema.
        SignatureError: Somebody else signed it, or for something else.
    """
    text = body.open(tag, signer=signer, where=where)
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        # What the other side wrote is not repeated.
        raise malformed("its header does not follow the schema") from error


def digest_of(body: SignedBody) -> Digest:
    """What a signed message is told from any other by: SHA-256 of its payload."""
    return Digest(hashlib.sha256(body.payload.encode()).hexdigest())
