"""Ed25519 signatures under a tag, so that one made for one purpose fits no other."""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedvol.errors import UsageError


def signed_digest(tag: str, payload: bytes) -> bytes:
    """What a key signs: SHA-256 over tag and payload, each after its length (u64, big endian)."""
    hasher = hashlib.sha256()
    for part in (f"fedvol/v1/{tag}".encode(), payload):
        hasher.update(len(part).to_bytes(8, "big") + part)
    return hasher.digest()


def is_signed(public: str, *, tag: str, payload: bytes, signature: str) -> bool:
    """Whether a signature is that of a key's owner.

    Args:
        public: The public key, 64 hexadecimal digits.
        tag: What the signature is for.
        payload: What was signed.
        signature: 128 hexadecimal digits.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), signed_digest(tag, payload))
    except (InvalidSignature, ValueError):
        return False
    return True


def require_public_key(text: str) -> str:
    """A public key as somebody typed it, in lower case.

    Raises:
        UsageError: It is none.
    """
    key = text.strip().lower()
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    except ValueError as error:
        raise UsageError(
            "--key", "is no public key", "Give the 64 hexadecimal digits of the log's owner."
        ) from error
    return key
