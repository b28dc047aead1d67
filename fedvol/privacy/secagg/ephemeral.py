"""What a site must not lose hold of during a sum: its two private keys and the seed of its mask."""

import secrets
from dataclasses import dataclass
from typing import Self, final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedvol.privacy.secagg.cohort import invalid_parties
from fedvol.privacy.secagg.hashing import KEY_BYTES


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SiteSecrets:
    """Made for one sum and forgotten with it; never written anywhere.

    Attributes:
        share_key: X25519 private key that opens shares sent to the site, c, 32 bytes.
        mask_key: X25519 private key of pairwise masks, s, 32 bytes.
        seed: Seed of the site's own mask, b, 32 bytes.
    """

    share_key: bytes
    mask_key: bytes
    seed: bytes

    @classmethod
    def draw(cls) -> Self:
        """New ones, from the operating system's randomness."""
        return cls(
            share_key=secrets.token_bytes(KEY_BYTES),
            mask_key=secrets.token_bytes(KEY_BYTES),
            seed=secrets.token_bytes(KEY_BYTES),
        )


def public_key(private: bytes) -> bytes:
    """The public half of an X25519 key, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    """What two X25519 keys agree on, 32 bytes (RFC 7748).

    Raises:
        PartiesInvalidError: The public key is of small order: everybody would know the result.
    """
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError as error:
        raise invalid_parties("a key of small order, with which nothing is secret") from error
