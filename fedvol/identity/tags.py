"""What a signature is for: a signature for one purpose never fits another.

`tagged_digest(tag, part, ...)` is SHA-256(LP("fedvol/v1/" + tag) || LP(part) || ...), where LP(x)
is the length of x as eight bytes, big-endian, and then x. The lengths keep tag and parts apart,
so no two different inputs share their bytes.
"""

import hashlib
from enum import StrEnum

_SPACE = "fedvol/v1/"


class Tag(StrEnum):
    """Every purpose a key of ours signs for; a new purpose is a new line here."""

    ROSTER = "roster"
    """The root says who takes part."""
    ENROLMENT = "enrolment"
    """A hospital hands over its public keys with its token."""
    REQUEST = "request"
    """The server asks a site for something."""
    REPLY = "reply"
    """A site answers a request."""
    CALL = "call"
    """A site calls a route of the server's public port."""
    PROPOSAL = "proposal"
    """The server puts a proposal to a site."""
    CONSENT = "consent"
    """A site answers a proposal."""
    PROGRESS = "progress"
    """A site tells how far its training is."""
    RECEIPT = "receipt"
    """The server took a contribution into a closed round."""
    CHECKPOINT = "checkpoint"
    """A party vouches for the head of its audit log."""
    SECURE_SUM_ADVERT = "secure-sum-advert"
    """A site's keys for one secure sum."""
    SECURE_SUM_SURVIVORS = "secure-sum-survivors"
    """A site says whose uploads it was told are in a secure sum."""


def tagged_digest(tag: str, *parts: bytes) -> bytes:
    """SHA-256 over a purpose and some parts, 32 bytes, as the module's head defines it."""
    hasher = hashlib.sha256()
    for part in (f"{_SPACE}{tag}".encode(), *parts):
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()
