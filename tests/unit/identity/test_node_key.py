"""Node keys are as Flower wants them, and have one spelling."""

import pytest
from consortium import node
from cryptography.hazmat.primitives.asymmetric import ec

from fedvol.identity import NodePublicKey

KEY = node("site-a")


def test_flower_holds_the_same_key() -> None:
    from flwr.supercore.primitives import asymmetric

    public = KEY.private.public_key()
    assert KEY.public.pem == asymmetric.public_key_to_bytes(public)
    assert asymmetric.uses_nist_ec_curve(public)
    signature = asymmetric.sign_message(KEY.private, b"a time")
    read = asymmetric.bytes_to_public_key(KEY.public.pem)
    assert asymmetric.verify_signature(read, b"a time", signature)


def test_a_key_is_known_by_its_text() -> None:
    assert NodePublicKey(KEY.public.hex) == KEY.public
    assert len(KEY.public.raw) == 49
    assert KEY.public.fingerprint != node("site-b").public.fingerprint


@pytest.mark.parametrize(
    "text",
    ["", "02", KEY.public.hex.upper(), "04" + KEY.public.hex[2:], KEY.public.hex + "0"],
)
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="compressed point"):
        NodePublicKey(text)


def test_what_is_not_on_the_curve_is_refused() -> None:
    refused = 0
    for number in range(8):
        text = "02" + number.to_bytes(48, "big").hex()
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), bytes.fromhex(text))
        except ValueError:
            refused += 1
            with pytest.raises(ValueError):
                NodePublicKey(text)
    assert refused
