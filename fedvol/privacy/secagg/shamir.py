"""Shamir's secret sharing (1979) over the prime field of 2^257 - 93, which holds every 32 bytes."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from fedvol.errors import ShareInvalidError
from fedvol.privacy.secagg.hashing import KEY_BYTES

PRIME = 2**257 - 93
SHARE_BYTES = 33


def split(
    secret: bytes,
    *,
    threshold: int,
    num_shares: int,
    draw: Callable[[int], int] = secrets.randbelow,
) -> tuple[bytes, ...]:
    """Shares of a secret for the indices 1 to `num_shares`; any `threshold` of them give it back.

    Args:
        secret: 32 bytes.
        threshold: How many are needed; fewer say nothing.
        num_shares: How many are made.
        draw: Draws a uniform whole number below its argument; the operating system's.

    Raises:
        ValueError: The secret is not 32 bytes, or the threshold not from 1 to `num_shares`.
    """
    if len(secret) != KEY_BYTES or not 1 <= threshold <= num_shares:
        raise ValueError("a secret has 32 bytes, and its threshold is from 1 to the shares made")
    coefficients = [int.from_bytes(secret, "big"), *(draw(PRIME) for _ in range(threshold - 1))]
    return tuple(_share(coefficients, at=index) for index in range(1, num_shares + 1))


def join(shares: Mapping[int, bytes], *, threshold: int) -> bytes:
    """The secret of at least `threshold` shares, by their index; more than needed are left out.

    Raises:
        ShareInvalidError: There are too few, one is no element of the field, or they belong to no
            secret of 32 bytes.
    """
    if len(shares) < threshold:
        raise _invalid(f"{len(shares)} shares, and {threshold} are needed")
    chosen = tuple(sorted(shares)[:threshold])
    values = [_element(shares[index]) for index in chosen]
    secret = sum(
        value * weight for value, weight in zip(values, _weights_at_0(chosen), strict=True)
    )
    secret %= PRIME
    if secret >= 2 ** (8 * KEY_BYTES):
        raise _invalid("shares that belong to no secret of 32 bytes")
    return secret.to_bytes(KEY_BYTES, "big")


def _share(coefficients: Sequence[int], *, at: int) -> bytes:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * at + coefficient) % PRIME
    return value.to_bytes(SHARE_BYTES, "big")


@lru_cache(maxsize=16)
def _weights_at_0(indices: tuple[int, ...]) -> list[int]:
    """Lagrange's weights for the value at 0 of the polynomial through these indices.

    Held, because the keys of many sites are joined from shares of the same sites.
    """
    weights: list[int] = []
    for one in indices:
        above, below = 1, 1
        for other in indices:
            if other != one:
                above = above * other % PRIME
                below = below * (other - one) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return weights


def _element(share: bytes) -> int:
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise _invalid("a share that is no element of the field")
    return value


def _invalid(what: str) -> ShareInvalidError:
    return ShareInvalidError(
        "shares of a key", what, "The round's sum cannot be made; play the next round."
    )
