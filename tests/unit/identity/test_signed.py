"""A signed body is what its signer said for this purpose, byte for byte, or refused."""

import json
from itertools import permutations

import pytest
from consortium import identity
from hypothesis import given
from hypothesis import strategies as st

from fedvol.errors import FedvolError, MessageError, SignatureError
from fedvol.identity import SignedBody, Tag, open_body, sign_body
from fedvol.identity.signed import MAX_BODY_BYTES
from fedvol.types import Json

KEY, OTHER = identity("site-a"), identity("site-b")
PAYLOAD: dict[str, Json] = {"run": "r1", "round": 3, "loss": 0.25, "who": "Zoë", "sites": ["a"]}
SIGNED = sign_body(KEY, Tag.REPLY, PAYLOAD)


def _open(data: bytes, *, tag: Tag = Tag.REPLY, limit_bytes: int = 4096) -> dict[str, Json]:
    return open_body(data, tag=tag, signer=KEY.public, where="site a", limit_bytes=limit_bytes)


def _signed(text: str) -> bytes:
    return SignedBody.sign(KEY, Tag.REPLY, text).to_bytes()


def test_what_was_signed_is_opened() -> None:
    assert _open(SIGNED) == PAYLOAD


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("value", [2.0**53, -(2.0**60), 1e20, 1e21, 1e300, 5e-324])
def test_a_large_number_travels(value: float) -> None:
    assert _open(sign_body(KEY, Tag.REPLY, {"loss": value})) == {"loss": value}


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), _JSON, max_size=3))
def test_any_json_object_travels(payload: dict[str, Json]) -> None:
    assert _open(sign_body(KEY, Tag.REPLY, payload), limit_bytes=1 << 20) == payload


def test_every_changed_byte_is_refused() -> None:
    for at in range(len(SIGNED)):
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(SIGNED)
            changed[at] ^= flip
            with pytest.raises((MessageError, SignatureError)):
                _open(bytes(changed))


def test_every_cut_and_every_added_byte_is_refused() -> None:
    for at in range(len(SIGNED)):
        with pytest.raises(MessageError):
            _open(SIGNED[:at])
    for data in (SIGNED + b" ", b" " + SIGNED, SIGNED + SIGNED):
        with pytest.raises(MessageError):
            _open(data)


@pytest.mark.parametrize("field", PAYLOAD)
def test_every_changed_field_is_refused(field: str) -> None:
    body = json.loads(SIGNED)
    for other in (None, 4, "x"):
        text = json.dumps({**PAYLOAD, field: other}, ensure_ascii=False)
        changed = SignedBody(**{**body, "payload": text}).to_bytes()
        with pytest.raises(SignatureError):
            _open(changed)


@pytest.mark.parametrize(("signed", "shown"), list(permutations(Tag, 2)))
def test_a_body_serves_no_other_purpose(signed: Tag, shown: Tag) -> None:
    with pytest.raises(SignatureError):
        _open(sign_body(KEY, signed, PAYLOAD), tag=shown)


def test_another_signer_is_refused_even_where_the_signature_holds() -> None:
    with pytest.raises(SignatureError, match="another key than the one expected"):
        _open(sign_body(OTHER, Tag.REPLY, PAYLOAD))


def test_a_signature_under_a_borrowed_name_is_refused() -> None:
    body = json.loads(sign_body(OTHER, Tag.REPLY, PAYLOAD))
    with pytest.raises(SignatureError, match="fits neither"):
        _open(SignedBody(**{**body, "signer": KEY.public}).to_bytes())


def test_size_is_limited_before_anything_else() -> None:
    assert _open(SIGNED, limit_bytes=len(SIGNED)) == PAYLOAD
    with pytest.raises(MessageError, match=f"larger than {len(SIGNED) - 1} bytes"):
        _open(SIGNED, limit_bytes=len(SIGNED) - 1)
    with pytest.raises(MessageError, match="larger"):
        open_body(b"[" * (MAX_BODY_BYTES + 1), tag=Tag.REPLY, signer=KEY.public, where="site a")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "1", "null", '{"a":1,"a":2}', '{"a": 1}', '{"b":1,"a":2}', '{"a":NaN}',
        '{"a":1e400}', '{"a":9007199254740993}', '{"a":1.0}', '{"a":-0}', r'{"a":"\ud800"}',
        r'{"a":"\u0061"}', "[" * 100_000, '{"a":' * 100_000, '{"a":1}\n', '{"a":1', "9" * 5000,
    ],
    ids=lambda text: text[:24] or "empty",
)  # fmt: skip
def test_a_payload_that_is_no_canonical_object_is_refused_though_signed(text: str) -> None:
    with pytest.raises(MessageError, match=r"^FV-TRAN-001 site a: "):
        _open(_signed(text), limit_bytes=1 << 20)


def test_nothing_is_parsed_before_the_signature_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.loads(SIGNED)
    forged = SignedBody(**{**body, "payload": "[" * 1000}).to_bytes()

    def parsed(*_: object, **__: object) -> None:
        pytest.fail("parsed")

    monkeypatch.setattr("fedvol.identity.signed.json.loads", parsed)
    with pytest.raises(SignatureError):
        _open(forged)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53 + 1, "\ud800"])
def test_what_cannot_be_spelled_is_not_signed(value: Json) -> None:
    with pytest.raises(ValueError):
        sign_body(KEY, Tag.REPLY, {"a": value})


@given(
    st.sampled_from(["payload", "signer", "signature", "Mustermann"]),
    st.sampled_from(['"Mustermann"', '{"Mustermann":1}', "7", "Mustermann"]),
)
def test_errors_repeat_nothing_of_the_body(field: str, value: str) -> None:
    fields = {name: json.dumps(text) for name, text in json.loads(SIGNED).items()}
    fields[field] = value
    data = "{" + ",".join(f'"{name}":{text}' for name, text in sorted(fields.items())) + "}"
    with pytest.raises(FedvolError) as caught:
        _open(data.encode())
    assert "Mustermann" not in str(caught.value)
    assert caught.value.where == "site a"
