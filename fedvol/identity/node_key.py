"""`NodeKey`: the key by which Flower knows a site's node, ECDSA on P-384 as Flower wants it.

Flower signs no more than a time with it. What a site says is signed by its `IdentityKey`; the
roster binds both keys to one site.
"""

import re
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import PlainSerializer, PlainValidator

from fedvol.identity.fingerprint import fingerprint
from fedvol.identity.key_files import read_key, write_key, wrong_kind


@dataclass(frozen=True, slots=True)
class NodePublicKey:
    """The public half of a node key.

    Attributes:
        hex: Its point, compressed (SEC 1, 49 bytes), in lower-case hexadecimal. Unlike PEM, a point
            has one such spelling, so equal keys are equal text.

    Raises:
        ValueError: It is no point of P-384 in that spelling.
    """

    hex: str

    def __post_init__(self) -> None:
        """Refuse what is not on the curve."""
        if not re.fullmatch("0[23][0-9a-f]{96}", self.hex):
            raise ValueError("not a compressed point of P-384 in lower-case hexadecimal")
        _point(self.raw)

    @classmethod
    def of(cls, key: ec.EllipticCurvePublicKey) -> Self:
        """The value of a key on P-384."""
        return cls(key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint).hex())

    @property
    def raw(self) -> bytes:
        """Its 49 bytes."""
        return bytes.fromhex(self.hex)

    @property
    def pem(self) -> bytes:
        """The same key as Flower's registry holds it."""
        return _point(self.raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """What people compare over the telephone."""
        return fingerprint("node", self.raw)


class NodeKey:
    """A private node key; it stays on the machine that made it.

    Args:
        private: The key itself; use `create` or `load`. Flower's node is given it.
    """

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self.private = private
        self.public = NodePublicKey.of(private.public_key())

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a key and write it to a new file, mode 0600.

        Raises:
            KeyFileError: A file is there already.
            StoreError: The folder cannot be written.
        """
        private = ec.generate_private_key(ec.SECP384R1())
        write_key(path, private)
        return cls(private)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key.

        Raises:
            KeyFileError: The file is absent, open to others, damaged or of another kind of key.
        """
        private = read_key(path)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(
            private.curve, ec.SECP384R1
        ):
            raise wrong_kind(path, wanted="EC P-384")
        return cls(private)

    def __repr__(self) -> str:
        return f"NodeKey({self.public.fingerprint})"


def _point(raw: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), raw)


def _public(value: object) -> NodePublicKey:
    if isinstance(value, NodePublicKey):
        return value
    if not isinstance(value, str):
        raise ValueError("not text")  # what pydantic turns into its own error
    return NodePublicKey(value)


NodePublicKeyField = Annotated[
    NodePublicKey, PlainValidator(_public), PlainSerializer(attrgetter("hex"), return_type=str)
]
"""A node's public key as a field of a document."""
