"""Shares of a site's seed and key, sealed for one receiver each."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedvol.errors import ShareInvalidError
from fedvol.privacy.secagg.cohort import Cohort
from fedvol.privacy.secagg.context import name_of
from fedvol.privacy.secagg.shamir import SHARE_BYTES
from fedvol.types import SiteId

_NONCE = bytes(12)
"""One for all: a key of `seal_key` seals a single message."""


def seal(
    seed_share: bytes, key_share: bytes, *, key: bytes, cohort: Cohort, sender: SiteId, to: SiteId
) -> bytes:
    """Both shares, under a key that sender and receiver alone have (AES-256-GCM)."""
    bound = _bound(cohort, sender, to)
    return AESGCM(key).encrypt(_NONCE, seed_share + key_share, bound)


def unseal(
    sealed: bytes, *, key: bytes, cohort: Cohort, sender: SiteId, to: SiteId
) -> tuple[bytes, bytes]:
    """The share of the sender's seed, and that of its key.

    Raises:
        ShareInvalidError: It was not sealed by this sender for this receiver in this sum.
    """
    try:
        shares = AESGCM(key).decrypt(_NONCE, sealed, _bound(cohort, sender, to))
    except InvalidTag as error:
        raise _invalid(sender) from error
    if len(shares) != 2 * SHARE_BYTES:
        raise _invalid(sender)
    return shares[:SHARE_BYTES], shares[SHARE_BYTES:]


def _bound(cohort: Cohort, sender: SiteId, to: SiteId) -> bytes:
    fields = (name_of(sender), name_of(to))
    return cohort.session + b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def _invalid(sender: SiteId) -> ShareInvalidError:
    return ShareInvalidError(
        f"shares of site {sender}",
        "they were not sealed by that site for this one in this sum",
        "Do not go on with this sum; if it comes again, ask the operator.",
    )
