"""Committed digests, signatures and fingerprints: what one version signs, another must verify.

Seeds are SHA-256 of the ASCII text `tv/id/<name>`, node keys' secret numbers that of
`tv/node/<name>`, as everywhere in the protocols. Ed25519 has one signature for each content.
"""

import pytest
from consortium import ROOT, entry, identity, node, roster

from fedvol.identity import SignedRoster, Tag, sign_body, tagged_digest

PAYLOAD = b"payload"
VECTORS = {
    "roster": (
        "355e564fa83eb707a65dc5cdc7c4787fc1b4f2d5920bfa3c27d59e839d1854fd",
        (
            "2f41564d4f3808cee536a12815dd938f47dcbc4b0033a051d5f00e7966138b9b"
            "666ff03f9971af38f72ab2eef96837e71a7219f6d6f0c9958d38fea02560cd0f"
        ),
    ),
    "enrolment": (
        "7e0cecae2a0ae8fcc26c8786ace706d561c71502602b83a0b4960baf1a98adff",
        (
            "e58651fb36451e1e643c6e9cdbd9a5f9e83368879b29ecd1ea3ad91516222b49"
            "10d356659d2e7307867387c312b9793fe214a738a6d9539a4faa44bd6b332600"
        ),
    ),
    "request": (
        "7e3b6135329b37e5b53a1d96104cfd4e71c79b1b511e5c5ae61d1f803f267697",
        (
            "c6a0eaee2e9c74c25dd5d6f5d3a371ab18d975117d059cd7de4ab9ebf67034d8"
            "89953ce9b23560395ee75ac0ab027dbaf203b672b5467440c72c51a992d4860c"
        ),
    ),
    "reply": (
        "3a299e1d1aa3b259fdb948a2b27a9e18920584981f571bba4de0f413ddcb5a97",
        (
            "237fa9a2fb22c1c76fc66dd787bb3e6dd01fd69bd71dd65d59f3f93b91965ca9"
            "057a7a81651dc8244ab59ce741bbf2d097ea4def8d1f28a47bc23651de429e09"
        ),
    ),
    "call": (
        "57990f6915ace242647499ac0c2dd35b64d157dfec8de7dd388fab5b63511efc",
        (
            "c3a4836c50a5329c1733a6180e34990a5149239a0fe302deedb3d58f69f70a56"
            "e2bc11ce52e64644a5fa47fcba79f52990f52669c02b1c255d36b2b16d335e05"
        ),
    ),
    "receipt": (
        "471d57d0791ace97029e2b70b9e69ff9da9f1225f08cc13f5c294029510f67d1",
        (
            "9473542638bb0f6f519760629621f140b877af020548a9a2d4da744aa469600d"
            "35887e5d34ba90b5a59a4f45069d85af13ab0b4bcb5f829b801438e64bf77d07"
        ),
    ),
    "checkpoint": (
        "521187c0ac46a44fd6a2d27f5d31bd23b73846d9724d107cff42522f1592b574",
        (
            "77904d45ba376eb334d66a2490a788388903a40e75cbbf1b6817710ccbd1c110"
            "2410cd5cbf7db8d523bbc1538c5f557cff34e99761745d99c600830a53b2790f"
        ),
    ),
}
"""By tag: digest of `payload`, and site-a's signature over it."""


@pytest.mark.parametrize("tag", VECTORS)
def test_signatures(tag: str) -> None:
    digest, signature = VECTORS[tag]
    assert tagged_digest(Tag(tag), PAYLOAD).hex() == digest
    assert identity("site-a").sign(Tag(tag), PAYLOAD).hex() == signature
    identity("site-a").public.verify(Tag(tag), PAYLOAD, bytes.fromhex(signature), where="here")


def test_public_keys_and_fingerprints() -> None:
    one = identity("site-a").public
    assert one.hex == "1d8627873d981f88bab09d3ba16751f61c54bfc30339f9249ebd6b20cfb7da83"
    assert one.fingerprint == "21b4 40c5 f2a5 34fc f46f 220e 02fc 2274"
    assert node("site-a").public.hex == (
        "02542c4e243b34de5d07b536d7b67ee4235715365dc83e54"
        "ba62942642f0792aaf64f6f160cbf8b6efdf832d4b1b2287f4"
    )
    assert node("site-a").public.fingerprint == "6f07 acd2 0c5e 47b3 9dd6 669e 7713 6eca"
    assert entry("site-a").fingerprint == "84c1 fb8d b49e 4c9d 9207 43d0 43d2 a994"


def test_a_body_on_the_wire() -> None:
    body = sign_body(identity("site-a"), Tag.REPLY, {"run": "r1", "round": 3})
    assert body.decode() == (
        r'{"payload":"{\"round\":3,\"run\":\"r1\"}",'
        '"signature":"fa29d8e7014d52977c3ccade8ad05fa3a2da0a563be6d3f61041c4488849ec63'
        '2c59a20fc92e427b11eb6837be88e08e22e973156e8cd6b4033732de59556408",'
        '"signer":"1d8627873d981f88bab09d3ba16751f61c54bfc30339f9249ebd6b20cfb7da83"}'
    )


def test_a_roster_and_its_digest() -> None:
    signed = SignedRoster.sign(roster(), root=ROOT)
    assert roster().digest == "5060cea16c8b57cf870e52d24d0d8bdef0be06376e7f751da519913a073b14d3"
    assert signed.body.signature == (
        "35661b18fe668f83c067fe2396a48f30ed2fd7629e5174bba34fcfaaa7895405"
        "797de916e8a98ab09a31d181d301658ea9735d32e9d56aa19b32aab265921902"
    )
