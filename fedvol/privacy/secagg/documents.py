"""What parties and server say to each other in a sum, as strict JSON documents."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from fedvol.config.base import Section
from fedvol.config.data import Name
from fedvol.errors import MessageError
from fedvol.privacy.secagg.cohort import Advert
from fedvol.privacy.secagg.party import Unmasking
from fedvol.types import Json, SiteId

Key = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
Share = Annotated[str, Field(pattern="^[0-9a-f]{66}$")]
Sealed = Annotated[str, Field(pattern="^[0-9a-f]{164}$")]
"""Two shares of 33 bytes and a tag of 16, in hexadecimal."""

_DocumentT = TypeVar("_DocumentT", bound=Section)


class AdvertDocument(Section):
    """Stage 0, site to server: an `Advert`."""

    site: Name
    """Which site."""
    share_key: Key
    """C, X25519."""
    mask_key: Key
    """S, X25519."""
    commitment: Key
    """h."""
    signature: Signature
    """Ed25519, by the site's identity key."""

    @classmethod
    def of(cls, advert: Advert) -> "AdvertDocument":
        """As it travels."""
        return cls(
            site=advert.site,
            share_key=advert.share_key.hex(),
            mask_key=advert.mask_key.hex(),
            commitment=advert.commitment.hex(),
            signature=advert.signature.hex(),
        )

    def advert(self) -> Advert:
        """As it is used."""
        return Advert(
            site=SiteId(self.site),
            share_key=bytes.fromhex(self.share_key),
            mask_key=bytes.fromhex(self.mask_key),
            commitment=bytes.fromhex(self.commitment),
            signature=bytes.fromhex(self.signature),
        )


class AdvertsDocument(Section):
    """Stage 1, server to site: everybody's advert."""

    adverts: tuple[AdvertDocument, ...]
    """In any order."""

    @classmethod
    def of(cls, adverts: Sequence[Advert]) -> "AdvertsDocument":
        """As they travel."""
        return cls(adverts=tuple(AdvertDocument.of(advert) for advert in adverts))


class SealedDocument(Section):
    """Stage 1, site to server, and stage 2, server to site: sealed shares."""

    sealed: dict[Name, Sealed]
    """By receiver on the way up, by sender on the way down."""

    @classmethod
    def of(cls, sealed: Mapping[SiteId, bytes]) -> "SealedDocument":
        """As they travel."""
        return cls(sealed={site: shares.hex() for site, shares in sealed.items()})

    def shares(self) -> dict[SiteId, bytes]:
        """As they are used."""
        return {SiteId(site): bytes.fromhex(shares) for site, shares in self.sealed.items()}


class UploadedDocument(Section):
    """Stage 3, server to site: who has uploaded."""

    uploaded: tuple[Name, ...]
    """Names."""


class SignatureDocument(Section):
    """Stage 3, site to server: a signature over who has uploaded."""

    signature: Signature
    """Ed25519, by the site's identity key."""


class SignaturesDocument(Section):
    """Stage 4, server to site: everybody's signature."""

    signatures: dict[Name, Signature]
    """By site."""

    def held(self) -> dict[SiteId, bytes]:
        """As they are used."""
        return {SiteId(site): bytes.fromhex(one) for site, one in self.signatures.items()}


class UnmaskingDocument(Section):
    """Stage 4, site to server: shares that take the masks off the sum."""

    seed_shares: dict[Name, Share]
    """Of the seeds of those who uploaded."""
    key_shares: dict[Name, Share]
    """Of the mask keys of those who did not."""

    @classmethod
    def of(cls, given: Unmasking) -> "UnmaskingDocument":
        """As it travels."""
        return cls(
            seed_shares={site: share.hex() for site, share in given.seed_shares.items()},
            key_shares={site: share.hex() for site, share in given.key_shares.items()},
        )

    def unmasking(self) -> Unmasking:
        """As it is used."""
        return Unmasking(
            seed_shares={SiteId(site): bytes.fromhex(s) for site, s in self.seed_shares.items()},
            key_shares={SiteId(site): bytes.fromhex(s) for site, s in self.key_shares.items()},
        )


def parse_document(values: Mapping[str, Json], kind: type[_DocumentT], *, where: str) -> _DocumentT:
    """A document from the JSON part of a message.

    Args:
        values: As it came.
        kind: What it must be.
        where: Whose message it is, for the error.

    Raises:
        MessageError: It does not follow the schema.
    """
    try:
        return kind.model_validate_json(json.dumps(dict(values)))
    except (ValidationError, TypeError, ValueError) as error:
        # What the other side wrote is not repeated.
        raise MessageError(
            where,
            f"it is no {kind.__name__} by the schema",
            "Bring server and sites to one fedvol version.",
        ) from error
