"""The protocol's hash and key derivation: every input carries its purpose and its length.

`LP(x)` is the length of x as four bytes, big-endian, and then x. With V = "fedvol/secagg/v1/":
H(tag, x, ...) = SHA-256(LP(V tag) LP(x) ...), and KDF(ikm, salt, tag, x, ...) = HKDF-SHA-256 (RFC
5869) with info LP(V tag) LP(x) ..., 32 bytes. So no two different lists of inputs share bytes.
"""

import hashlib

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PROTOCOL = "fedvol/secagg/v1"
KEY_BYTES = 32


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """H(tag, parts...), 32 bytes."""
    return hashlib.sha256(_labelled(tag, parts)).digest()


def derive_key(material: bytes, tag: str, *parts: bytes, salt: bytes) -> bytes:
    """KDF(material, salt, tag, parts...), 32 bytes."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=_labelled(tag, parts)).derive(
        material
    )


def u64(number: int) -> bytes:
    """A whole number as eight bytes, big-endian."""
    return number.to_bytes(8, "big")


def _labelled(tag: str, parts: tuple[bytes, ...]) -> bytes:
    fields = (f"{PROTOCOL}/{tag}".encode(), *parts)
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)
