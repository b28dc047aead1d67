"""What one secure sum is about: its terms, and the digest that every message is bound to."""

from dataclasses import dataclass
from typing import Literal

from fedvol.plan import canonical_json
from fedvol.privacy.secagg.hashing import tagged_hash, u64
from fedvol.types import Digest, Json, SiteId

Bits = Literal[16, 32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What every party of a sum must have alike, or their words mean nothing together.

    Attributes:
        num_values: Values of the body, d.
        bits: Bits a value of the body travels in; 16 goes with the rotation.
        norm_bound: Largest L2 norm of a site's update, S, in units of the weights.
        max_weight: Largest weight of a site, W_max, a whole number.
        tail: Names of the sums told beside the weight, in order.
        mode: What is promised; `confidential` is the only mode in which sums are masked.
    """

    num_values: int
    bits: Bits
    norm_bound: float
    max_weight: int
    tail: tuple[str, ...] = ()
    mode: Literal["confidential"] = "confidential"

    @property
    def digest(self) -> bytes:
        """Hash of the canonical JSON of all of it, 32 bytes."""
        fields: dict[str, Json] = {
            "num_values": self.num_values,
            "bits": self.bits,
            "norm_bound": self.norm_bound,
            "max_weight": self.max_weight,
            "tail": list(self.tail),
            "mode": self.mode,
        }
        return tagged_hash("terms", canonical_json(fields))


def context_digest(
    *, job: str, round_index: int, roster: Digest, model: Digest, terms: bytes
) -> bytes:
    """ctx: 32 bytes that stand in everything a site signs or derives in one sum.

    Args:
        job: What is summed: a stage of a run.
        round_index: Which round of it.
        roster: Digest of the roster the site trusts.
        model: Digest of the global state the site has loaded.
        terms: Digest of the sum's terms, 32 bytes.
    """
    return tagged_hash(
        "ctx",
        job.encode(),
        u64(round_index),
        bytes.fromhex(roster),
        bytes.fromhex(model),
        terms,
    )


def name_of(site: SiteId) -> bytes:
    """A site's name as the protocol hashes and orders it."""
    return site.encode()
