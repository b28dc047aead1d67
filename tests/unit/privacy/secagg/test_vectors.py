"""The design's test vectors, exact."""

from hashlib import sha256

import numpy as np
from secure_sums import keystream, vector_identity, vector_secrets

from fedvol.privacy.secagg import Cohort, Party, Terms, code_of, context_digest
from fedvol.privacy.secagg.ephemeral import agree
from fedvol.privacy.secagg.hashing import derive_key, tagged_hash
from fedvol.privacy.secagg.keys import seal_key
from fedvol.privacy.secagg.masks import apply_masks
from fedvol.privacy.secagg.shamir import split
from fedvol.types import Digest, SiteId

A, B, C = (SiteId(f"site-{letter}") for letter in "abc")
UPLOADS = {
    A: "2ab29cab c3255a62 96cb7d42 383612a7",
    B: "df6a4b8f 3020b0d9 e6d9ab16 3403a519",
    C: "811e291e dfab722c 14212243 8f24085c",
}
VALUES = {A: (1, 2, 3, -4), B: (10, 20, 30, 40), C: (100, 200, 300, -400)}

CONTEXT = context_digest(
    job="job-1",
    round_index=7,
    roster=Digest(sha256(b"roster").hexdigest()),
    model=Digest(sha256(b"model").hexdigest()),
    terms=sha256(b"params").digest(),
)


def parties() -> dict[SiteId, Party]:
    members = {site: vector_identity(site).public for site in (A, B, C)}
    return {
        site: Party(
            site=site,
            context=CONTEXT,
            identity=vector_identity(site),
            members=members,
            min_parties=3,
            claim=lambda: None,
            secrets=vector_secrets(site),
        )
        for site in (A, B, C)
    }


def test_context_is_of_job_round_and_hashes() -> None:
    assert CONTEXT.hex() == "30ed3f73d04e096248099cad61bd69c2bdba25918f18d62eca042d1508406081"


def test_advert_keys_and_session() -> None:
    held = parties()
    adverts = [party.advertise() for party in held.values()]
    first = adverts[0]
    assert first.share_key.hex() == (
        "dc631c25346a9a34bb77eecb7c6ed6d8d9abca358ccd912de2ed98a7b355733f"
    )
    assert first.mask_key.hex() == (
        "7ddde43e081c0ff63bc76e19e5ec4dc57cf155552253051cf0036dc99d565636"
    )
    assert first.commitment.hex() == (
        "50cc1b46f0bbb078cba0b96d3055b3c245ca4d8b5b355b211c3ef41f3316f585"
    )
    members = {site: vector_identity(site).public for site in (A, B, C)}
    cohort = Cohort.of(reversed(adverts), context=CONTEXT, members=members)
    assert cohort.session.hex() == (
        "4d544524130b084da8cbadcd71fc02a6af069728539e8c67bdf142f24f051e2f"
    )
    agreed = agree(vector_secrets(A).share_key, cohort.advert(B).share_key)
    assert seal_key(agreed, cohort=cohort, sender=A, receiver=B).hex() == (
        "f650b42a508acff72bc633771e4909047829239cd10afc8dda936b49662a5b7a"
    )
    assert cohort.survivors_digest([C, A, B]).hex() == (
        "48a394638d96bf334c551e34123b6b9c0b9769ff794cbdaa8b61511b919b95fb"
    )


def test_masks_and_masked_words_add_up() -> None:
    held = parties()
    adverts = [party.advertise() for party in held.values()]
    sealed = {site: party.share(adverts) for site, party in held.items()}
    total = np.zeros(4, dtype=np.uint32)
    for site, party in held.items():
        masks = party.masks({other: sealed[other][site] for other in held if other != site})
        if site == A:
            own, with_b, with_c = masks.body.added
            assert own.hex() == "dc16c6f42405b174ee59f5c7f037e7a780c9cb14962f425795b950715630ef64"
            assert with_b.hex() == (
                "76e0fdbfe99a7dbbf26765f832a4c3be0e65416fed833671839a642fa012f3f2"
            )
            assert with_c.hex() == (
                "90812d22507cec098de3c2f15c6d3f0d6fab9be70bc5b3011dbb5d5c3e0dc564"
            )
        words = np.array(VALUES[site], dtype=np.int32).view(np.uint32)
        apply_masks(words, masks.body)
        assert [f"{word:08x}" for word in words] == UPLOADS[site].split()
        total += words
    signatures = {site: party.sign([A, B, C]) for site, party in held.items()}
    given = {site: party.unmask(signatures) for site, party in held.items()}
    assert set(given[A].seed_shares) == {A, B, C}
    assert not given[A].key_shares


def test_sum_of_the_vectors_without_their_own_masks() -> None:
    total = np.zeros(4, dtype=np.uint32)
    session = bytes.fromhex("4d544524130b084da8cbadcd71fc02a6af069728539e8c67bdf142f24f051e2f")
    for site, words in UPLOADS.items():
        total += np.array([int(word, 16) for word in words.split()], dtype=np.uint32)
        own = derive_key(vector_secrets(site).seed, "self", site.encode(), salt=session)
        total -= keystream(own, num_words=4, dtype=np.dtype("<u4"))
    assert total.view(np.int32).tolist() == [111, 222, 333, -364]


def test_keystream_and_share() -> None:
    key = bytes(range(32))
    assert keystream(key, num_words=4, dtype=np.dtype("<u4")).tobytes().hex() == (
        "f29000b62a499fd0a9f39a6add2e7780"
    )
    drawn = iter((5, 7))
    share = split(key, threshold=3, num_shares=4, draw=lambda below: next(drawn))[3]
    assert share.hex() == "00000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1ea3"


def test_scale() -> None:
    terms = Terms(num_values=4, bits=32, norm_bound=1.0, max_weight=1)
    scales = [code_of(terms, num_parties=num).scale for num in (3, 8, 100)]
    assert scales == [2.0**29, 2.0**27, 2.0**24]


def test_fields_cannot_run_together() -> None:
    assert tagged_hash("ctx", b"ab", b"c") != tagged_hash("ctx", b"a", b"bc")
    assert tagged_hash("ctx", b"ab") != tagged_hash("ctxa", b"b")
