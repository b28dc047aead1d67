"""`SignedBody`: some JSON, who says it, and the signature that proves it.

On the wire it is `{"payload": "<canonical JSON>", "signature": "<hex>", "signer": "<hex>"}`, itself
canonical. The payload travels as text, so that its signature can be tried before it is parsed.
Where only the payload says whose key to try (a site's call), it is read before, and counts after.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Self, cast

from pydantic import Field

from fedvol.config.base import Section
from fedvol.errors import MessageError, SignatureError
from fedvol.identity.documents import read_document, write_document
from fedvol.identity.keys import IdentityKey, PublicKey, PublicKeyField
from fedvol.identity.tags import Tag
from fedvol.plan import canonical_json
from fedvol.types import Json

MAX_BODY_BYTES = 1 << 20
"""Largest body that is read unless the caller says otherwise; tensors travel elsewhere."""


class SignedBody(Section):
    """A payload with its signer's word for it; nothing of it counts before `open` returned."""

    payload: str
    """Canonical JSON, as text."""
    signer: PublicKeyField
    """Who says so: a claim, until `open` has compared it."""
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
    """Signature over the payload's bytes, in hexadecimal."""

    @classmethod
    def sign(cls, key: IdentityKey, tag: Tag, payload: str) -> Self:
        """Sign text that is canonical JSON already."""
        signature = key.sign(tag, payload.encode()).hex()
        return cls(payload=payload, signer=key.public, signature=signature)

    @classmethod
    def parse(cls, data: bytes, *, where: str, limit_bytes: int = MAX_BODY_BYTES) -> Self:
        """Read a body from the wire.

        Raises:
            MessageError: It is too large or malformed.
        """
        try:
            return read_document(cls, data, limit_bytes=limit_bytes)
        except ValueError as error:
            raise _malformed(where, str(error)) from error

    def to_bytes(self) -> bytes:
        """The body as it travels."""
        return write_document(self)

    def open(self, tag: Tag, *, signer: PublicKey, where: str) -> str:
        """The payload, once it is certain that this signer said it for this purpose.

        Raises:
            SignatureError: Another key signed it, or for another purpose, or something else.
        """
        if self.signer != signer:
            raise SignatureError(
                where,
                "it is signed with another key than the one expected here",
                "Compare the keys with the current roster; ask the other party which it uses.",
            )
        signer.verify(tag, self.payload.encode(), bytes.fromhex(self.signature), where=where)
        return self.payload


def sign_body(key: IdentityKey, tag: Tag, payload: Mapping[str, Json]) -> bytes:
    """Sign a JSON object for one purpose, ready to travel.

    Raises:
        ValueError: A value has no canonical spelling, such as NaN or a number beyond 2^53.
    """
    text = canonical_json(dict(payload)).decode()
    return SignedBody.sign(key, tag, text).to_bytes()


def open_body(
    data: bytes, *, tag: Tag, signer: PublicKey, where: str, limit_bytes: int = MAX_BODY_BYTES
) -> dict[str, Json]:
    """The JSON object that this signer signed for this purpose.

    Args:
        data: The body as it travelled.
        tag: The purpose expected.
        signer: The key expected: from the roster, never from the body.
        where: Whose body it is, for errors.
        limit_bytes: Size beyond which it is not looked at.

    Raises:
        MessageError: It is too large, malformed, or no JSON object in canonical form.
        SignatureError: Another key signed it, or for another purpose, or something else.
    """
    body = SignedBody.parse(data, where=where, limit_bytes=limit_bytes)
    text = body.open(tag, signer=signer, where=where)
    try:
        payload = json.loads(text, parse_int=_whole)
        if isinstance(payload, dict) and canonical_json(cast("Json", payload)).decode() == text:
            return cast("dict[str, Json]", payload)
    except (ValueError, RecursionError) as error:
        raise _malformed(where, "its payload is no JSON") from error
    raise _malformed(where, "its payload is no JSON object in canonical form (RFC 8785)")


def _whole(digits: str) -> int | float:
    # RFC 8785 spells a float up to 1e21 without exponent; beyond 2^53 it is no integer of JSON's.
    number = float(digits)
    return int(digits) if abs(number) < 1 << 53 else number


def _malformed(where: str, reason: str) -> MessageError:
    return MessageError(
        where, f"the signed body is malformed: {reason}", "Compare the versions of both parties."
    )
