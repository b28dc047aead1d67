"""What is said in a secure sum travels as JSON and comes back as it was, or is refused."""

import pytest
from secure_sums import Sites, names

from fedvol.errors import MessageError
from fedvol.privacy.secagg import Terms
from fedvol.privacy.secagg.documents import (
    AdvertsDocument,
    SealedDocument,
    SignaturesDocument,
    UnmaskingDocument,
    parse_document,
)
from fedvol.types import Json, SiteId

SITES = names(3)


def sites() -> Sites:
    return Sites(terms=Terms(num_values=1, bits=32, norm_bound=1.0, max_weight=1), sites=SITES)


def test_everything_comes_back_as_it_was() -> None:
    everybody = sites()
    adverts = everybody.adverts()
    said = AdvertsDocument.of(adverts).model_dump(mode="json")
    again = parse_document(said, AdvertsDocument, where="server")
    assert [one.advert() for one in again.adverts] == adverts
    sealed = everybody.sealed(adverts)
    for shares in sealed.values():
        said = SealedDocument.of(shares).model_dump(mode="json")
        assert parse_document(said, SealedDocument, where="site").shares() == dict(shares)
    for site in SITES:
        received = {of: shares[site] for of, shares in sealed.items() if of != site}
        everybody.parties[site].masks(received)
    signatures = {site: everybody.parties[site].sign(SITES) for site in SITES}
    said = SignaturesDocument(
        signatures={site: one.hex() for site, one in signatures.items()}
    ).model_dump(mode="json")
    assert parse_document(said, SignaturesDocument, where="server").held() == signatures
    given = everybody.parties[SITES[0]].unmask(signatures)
    said = UnmaskingDocument.of(given).model_dump(mode="json")
    assert parse_document(said, UnmaskingDocument, where="site").unmasking() == given


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"sealed": None},
        {"sealed": {"site-01": "ff"}},
        {"sealed": {"site-01": "F" * 164}},
        {"sealed": {"../etc": "0" * 164}},
        {"sealed": {}, "more": 1},
    ],
)
def test_what_does_not_follow_the_schema_is_refused(said: dict[str, Json]) -> None:
    with pytest.raises(MessageError, match=r"site a: it is no SealedDocument"):
        parse_document(said, SealedDocument, where=f"site {SiteId('a')}")
