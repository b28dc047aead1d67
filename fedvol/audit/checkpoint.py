"""Signed checkpoints: lines by which the log's owner vouches for all that stands before them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from fedvol.audit.chain import ChainEnd
from fedvol.errors import SignatureError
from fedvol.identity import IdentityKey, PublicKey, Tag
from fedvol.plan import canonical_json
from fedvol.types import Digest, Json

CHECKPOINT: Final = "checkpoint"
"""Kind of a checkpoint's line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """When the next checkpoint is due: whichever comes first.

    Attributes:
        num_records: Lines that no checkpoint covers yet.
        age: Time since the first of them.
    """

    num_records: int = 1000
    age: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says.

    Attributes:
        records: Lines before it.
        head: Hash of the last of them.
        size_bytes: Bytes before it, so that its place in the file is signed, too.
        time: When it was signed, ISO 8601.
        public: The key that signed it, in hexadecimal.
        signature: Its signature over all the above, in hexadecimal.
    """

    records: int
    head: Digest
    size_bytes: int
    time: str
    public: str
    signature: str

    @classmethod
    def sign(cls, end: ChainEnd, *, time: str, signer: IdentityKey) -> Self:
        """Vouch for a chain up to its end."""
        payload = _payload(end, time=time, public=signer.public.hex)
        return cls(
            records=end.records,
            head=end.head,
            size_bytes=end.size_bytes,
            time=time,
            public=signer.public.hex,
            signature=signer.sign(Tag.CHECKPOINT, payload).hex(),
        )

    @classmethod
    def read(cls, event: dict[str, Json]) -> Self | None:
        """The checkpoint that a line holds; None if its fields are not those of one."""
        match event:
            case {
                "kind": "checkpoint",
                "records": int(records),
                "head": str(head),
                "size_bytes": int(size_bytes),
                "time": str(time),
                "public": str(public),
                "signature": str(signature),
            }:
                return cls(
                    records=records,
                    head=Digest(head),
                    size_bytes=size_bytes,
                    time=time,
                    public=public,
                    signature=signature,
                )
            case _:
                return None

    @property
    def end(self) -> ChainEnd:
        """The end of the chain it vouches for."""
        return ChainEnd(records=self.records, head=self.head, size_bytes=self.size_bytes)

    def is_genuine(self) -> bool:
        """Whether the key it names signed what it says."""
        payload = _payload(self.end, time=self.time, public=self.public)
        try:
            signature = bytes.fromhex(self.signature)
            PublicKey(self.public).verify(Tag.CHECKPOINT, payload, signature, where="checkpoint")
        except (SignatureError, ValueError):
            return False
        return True

    def as_json(self) -> dict[str, Json]:
        """Its kind and every field by name."""
        return {
            "kind": CHECKPOINT,
            "records": self.records,
            "head": self.head,
            "size_bytes": self.size_bytes,
            "time": self.time,
            "public": self.public,
            "signature": self.signature,
        }


def _payload(end: ChainEnd, *, time: str, public: str) -> bytes:
    return canonical_json(
        {
            "head": end.head,
            "public": public,
            "records": end.records,
            "size_bytes": end.size_bytes,
            "time": time,
        }
    )
