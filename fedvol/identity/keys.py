"""`IdentityKey` and `PublicKey`: Ed25519, by which a root, a server or a site is known.

A signature covers `tagged_digest(tag, payload)`, never the payload alone. See `tags.py`.
"""

import re
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import PlainSerializer, PlainValidator

from fedvol.errors import SignatureError
from fedvol.identity.fingerprint import fingerprint
from fedvol.identity.key_files import read_key, write_key, wrong_kind
from fedvol.identity.tags import Tag, tagged_digest

_PRIME = 2**255 - 19
_SMALL_ORDER = frozenset(
    int.from_bytes(bytes.fromhex(y), "little")
    for y in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)
"""y of the points whose order divides 8; under such a key one signature fits many contents."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of an identity.

    Attributes:
        hex: Its 32 bytes (RFC 8032) in lower-case hexadecimal.

    Raises:
        ValueError: It is not 64 such digits, or not the one spelling of a point that can sign.
    """

    hex: str

    def __post_init__(self) -> None:
        """Refuse what is no key, and keys under which anybody's signature would hold."""
        if not re.fullmatch("[0-9a-f]{64}", self.hex):
            raise ValueError("not 64 lower-case hexadecimal digits")
        y = int.from_bytes(self.raw, "little") & (2**255 - 1)
        if y >= _PRIME or y in _SMALL_ORDER:
            raise ValueError("not a point that can sign")

    @property
    def raw(self) -> bytes:
        """Its 32 bytes."""
        return bytes.fromhex(self.hex)

    @property
    def fingerprint(self) -> str:
        """What people compare over the telephone."""
        return fingerprint("identity", self.raw)

    def verify(self, tag: Tag, payload: bytes, signature: bytes, *, where: str) -> None:
        """Return only if this key signed this payload for this purpose.

        Args:
            tag: The purpose.
            payload: What was signed.
            signature: 64 bytes.
            where: What is being verified, for the error.

        Raises:
            SignatureError: It did not.
        """
        key = Ed25519PublicKey.from_public_bytes(self.raw)
        try:
            key.verify(signature, tagged_digest(tag, payload))
        except InvalidSignature as error:
            raise SignatureError(
                where,
                "the signature fits neither this key, nor this purpose, nor this content",
                "Trust nothing in it; ask whoever sent it, by another way, what they sent.",
            ) from error


class IdentityKey:
    """A private identity; it stays on the machine that made it.

    Args:
        private: The key itself; use `generate`, `create` or `load`.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey(private.public_key().public_bytes_raw().hex())

    @classmethod
    def generate(cls) -> Self:
        """Make a key from the operating system's randomness, in memory alone."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def create(cls, path: Path, *, passphrase_file: Path | None = None) -> Self:
        """Make a key and write it to a new file, mode 0600.

        Raises:
            KeyFileError: A file is there already, or the passphrase cannot be used.
            StoreError: The folder cannot be written.
        """
        private = Ed25519PrivateKey.generate()
        write_key(path, private, passphrase_file=passphrase_file)
        return cls(private)

    @classmethod
    def load(cls, path: Path, *, passphrase_file: Path | None = None) -> Self:
        """Read a key.

        Raises:
            KeyFileError: The file is absent, open to others, damaged, of another kind of key, or
                under another passphrase.
        """
        private = read_key(path, passphrase_file=passphrase_file)
        if not isinstance(private, Ed25519PrivateKey):
            raise wrong_kind(path, wanted="Ed25519")
        return cls(private)

    def sign(self, tag: Tag, payload: bytes) -> bytes:
        """Sign a payload for one purpose; 64 bytes."""
        return self._private.sign(tagged_digest(tag, payload))

    def __repr__(self) -> str:
        return f"IdentityKey({self.public.fingerprint})"


def _public(value: object) -> PublicKey:
    if isinstance(value, PublicKey):
        return value
    if not isinstance(value, str):
        raise ValueError("not text")  # what pydantic turns into its own error
    return PublicKey(value)


PublicKeyField = Annotated[
    PublicKey, PlainValidator(_public), PlainSerializer(attrgetter("hex"), return_type=str)
]
"""A public key as a field of a document: its hexadecimal digits."""
