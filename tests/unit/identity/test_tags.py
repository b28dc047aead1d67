"""Tags keep purposes apart."""

import hashlib
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from fedvol.identity import Tag, tagged_digest


def test_digest_is_as_the_text_says() -> None:
    tag = b"fedvol/v1/reply"
    written = (
        len(tag).to_bytes(8, "big")
        + tag
        + (3).to_bytes(8, "big")
        + b"abc"
        + (0).to_bytes(8, "big")
        + b""
    )
    assert tagged_digest(Tag.REPLY, b"abc", b"") == hashlib.sha256(written).digest()


def test_two_tags_never_agree() -> None:
    for one, other in combinations(Tag, 2):
        assert tagged_digest(one, b"x") != tagged_digest(other, b"x")


@given(st.lists(st.binary(max_size=3), max_size=3), st.lists(st.binary(max_size=3), max_size=3))
def test_parts_do_not_run_into_each_other(one: list[bytes], other: list[bytes]) -> None:
    assert (tagged_digest("t", *one) == tagged_digest("t", *other)) == (one == other)


def test_the_tag_does_not_run_into_the_payload() -> None:
    assert tagged_digest("ab", b"c") != tagged_digest("a", b"bc")
