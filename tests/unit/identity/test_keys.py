"""Identities sign for one purpose; what is no key is none."""

from itertools import permutations

import pytest
from consortium import identity
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from fedvol.errors import SignatureError
from fedvol.identity import IdentityKey, PublicKey, Tag

KEY = identity("site-a")
IDENTITY_POINT = "01" + 31 * "00"


@given(st.binary(max_size=100))
def test_a_signature_holds(payload: bytes) -> None:
    KEY.public.verify(Tag.REPLY, payload, KEY.sign(Tag.REPLY, payload), where="here")


@pytest.mark.parametrize(("signed", "shown"), list(permutations(Tag, 2)))
def test_a_signature_holds_for_no_other_purpose(signed: Tag, shown: Tag) -> None:
    signature = KEY.sign(signed, b"payload")
    with pytest.raises(SignatureError, match=r"^FV-TRAN-012 here: "):
        KEY.public.verify(shown, b"payload", signature, where="here")


def test_every_changed_bit_of_a_signature_is_refused() -> None:
    signature = KEY.sign(Tag.REPLY, b"payload")
    for at in range(len(signature) * 8):
        changed = bytearray(signature)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(SignatureError):
            KEY.public.verify(Tag.REPLY, b"payload", bytes(changed), where="here")


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(SignatureError):
        KEY.public.verify(Tag.REPLY, b"payload", signature, where="here")


def test_another_payload_or_key_is_refused() -> None:
    signature = KEY.sign(Tag.REPLY, b"payload")
    with pytest.raises(SignatureError):
        KEY.public.verify(Tag.REPLY, b"payloae", signature, where="here")
    with pytest.raises(SignatureError):
        identity("site-b").public.verify(Tag.REPLY, b"payload", signature, where="here")


def test_it_does_not_sign_the_bare_payload() -> None:
    from cryptography.exceptions import InvalidSignature

    bare = Ed25519PublicKey.from_public_bytes(KEY.public.raw)
    with pytest.raises(InvalidSignature):
        bare.verify(KEY.sign(Tag.REPLY, b"payload"), b"payload")


def test_generated_keys_differ() -> None:
    assert len({IdentityKey.generate().public for _ in range(8)}) == 8


@pytest.mark.parametrize(
    "text", ["", "ab", KEY.public.hex.upper(), KEY.public.hex + "00", "g" + KEY.public.hex[1:]]
)
def test_a_public_key_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case"):
        PublicKey(text)


def _spelled(y: int, *, sign: int) -> str:
    return (y | sign << 255).to_bytes(32, "little").hex()


PRIME = 2**255 - 19
SMALL = [0, 1, PRIME - 1, PRIME, PRIME + 1]
SMALL += [
    int.from_bytes(bytes.fromhex(text), "little")
    for text in (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
]


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", SMALL)
def test_keys_under_which_anybody_signs_are_refused(y: int, sign: int) -> None:
    with pytest.raises(ValueError, match="not a point that can sign"):
        PublicKey(_spelled(y, sign=sign))


def test_without_that_rule_one_signature_fits_everything() -> None:
    forged = bytes.fromhex(IDENTITY_POINT) + bytes(32)
    anybody = Ed25519PublicKey.from_public_bytes(bytes.fromhex(IDENTITY_POINT))
    for payload in (b"one", b"another"):
        anybody.verify(forged, payload)
