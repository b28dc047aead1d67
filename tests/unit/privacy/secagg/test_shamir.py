"""Shares give their secret back from any threshold of them, and from fewer nothing."""

from itertools import combinations

import pytest

from fedvol.errors import ShareInvalidError
from fedvol.privacy.secagg.shamir import PRIME, SHARE_BYTES, join, split

SECRETS = (bytes(32), b"\xff" * 32, bytes(range(32)))


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(("num_shares", "threshold"), [(1, 1), (3, 3), (5, 4), (7, 3)])
def test_any_threshold_of_shares_gives_the_secret(
    secret: bytes, num_shares: int, threshold: int
) -> None:
    shares = dict(enumerate(split(secret, threshold=threshold, num_shares=num_shares), 1))
    assert all(len(share) == SHARE_BYTES for share in shares.values())
    for chosen in combinations(shares, threshold):
        assert join({index: shares[index] for index in chosen}, threshold=threshold) == secret
    assert join(shares, threshold=threshold) == secret


def test_fewer_shares_fit_every_secret() -> None:
    """Of a line through one point anything may be the value at 0."""
    share = split(SECRETS[2], threshold=2, num_shares=2)[0]
    for other in SECRETS[:2]:
        slope = (int.from_bytes(share, "big") - int.from_bytes(other, "big")) % PRIME
        again = split(other, threshold=2, num_shares=2, draw=lambda below, slope=slope: slope)
        assert again[0] == share


def test_two_splits_share_nothing() -> None:
    one, other = (split(SECRETS[2], threshold=2, num_shares=3) for _ in range(2))
    assert not set(one) & set(other)


def test_too_few_and_false_shares_are_refused() -> None:
    shares = dict(enumerate(split(SECRETS[2], threshold=3, num_shares=4), 1))
    with pytest.raises(ShareInvalidError, match="2 shares, and 3 are needed"):
        join({1: shares[1], 2: shares[2]}, threshold=3)
    for false in (shares[1][:-1], b"\xff" * SHARE_BYTES):
        with pytest.raises(ShareInvalidError, match="no element of the field"):
            join({**shares, 1: false}, threshold=3)
    swapped = {1: shares[2], 2: shares[1], 3: shares[3]}
    try:
        assert join(swapped, threshold=3) != SECRETS[2]
    except ShareInvalidError as error:
        assert "belong to no secret" in str(error)


@pytest.mark.parametrize(
    ("secret", "threshold", "num_shares"), [(bytes(31), 1, 1), (bytes(32), 0, 1), (bytes(32), 3, 2)]
)
def test_what_cannot_be_split(secret: bytes, threshold: int, num_shares: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        split(secret, threshold=threshold, num_shares=num_shares)
