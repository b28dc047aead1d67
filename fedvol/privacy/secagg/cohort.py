"""`Advert` and `Cohort`: the keys of one sum, signed, and who takes part in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from fedvol.errors import AdvertInvalidError, PartiesInvalidError, SignatureError
from fedvol.identity import IdentityKey, PublicKey, Tag
from fedvol.privacy.secagg.context import name_of
from fedvol.privacy.secagg.hashing import KEY_BYTES, tagged_hash
from fedvol.types import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """What a site says of itself before a sum; nothing in it is secret.

    Attributes:
        site: Which site.
        share_key: X25519 key under which shares are sent to it, C, 32 bytes.
        mask_key: X25519 key from which pairwise masks are agreed, S, 32 bytes.
        commitment: Hash of the seed of its own mask, h, 32 bytes.
        signature: Its identity key's over all of that and the context, 64 bytes.
    """

    site: SiteId
    share_key: bytes
    mask_key: bytes
    commitment: bytes
    signature: bytes

    @classmethod
    def signed(
        cls,
        site: SiteId,
        *,
        share_key: bytes,
        mask_key: bytes,
        commitment: bytes,
        context: bytes,
        identity: IdentityKey,
    ) -> Self:
        """An advert with the site's signature."""
        digest = _digest(context, site, share_key, mask_key, commitment)
        return cls(
            site=site,
            share_key=share_key,
            mask_key=mask_key,
            commitment=commitment,
            signature=identity.sign(Tag.SECURE_SUM_ADVERT, digest),
        )

    def verify(self, *, context: bytes, identity: PublicKey) -> None:
        """Return only if the site signed this advert for this very sum.

        Raises:
            AdvertInvalidError: It did not: it is of another round, model, roster, key or site.
        """
        digest = _digest(context, self.site, self.share_key, self.mask_key, self.commitment)
        where = f"advert of site {self.site}"
        try:
            identity.verify(Tag.SECURE_SUM_ADVERT, digest, self.signature, where=where)
        except SignatureError as error:
            raise AdvertInvalidError(
                where,
                "it is not signed by that site for this round, model, roster and terms",
                "Do not go on with this sum; if it comes again, ask the operator which model and "
                "roster the sites were given.",
            ) from error


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The parties of one sum, as adverts in the order of their names' bytes.

    Attributes:
        context: See `context_digest`.
        adverts: Of each party one, in order.
    """

    context: bytes
    adverts: tuple[Advert, ...]

    @classmethod
    def of(
        cls,
        adverts: Iterable[Advert],
        *,
        context: bytes,
        members: Mapping[SiteId, PublicKey],
    ) -> Self:
        """Parties whose adverts all hold.

        Args:
            adverts: In any order.
            context: This party's own.
            members: Identity keys of the sites that the roster lets take part.

        Raises:
            PartiesInvalidError: A site stands in it twice or is not in the roster, or two keys are
                the same.
            AdvertInvalidError: A signature does not hold.
        """
        held = tuple(sorted(adverts, key=lambda advert: name_of(advert.site)))
        require_distinct(held)
        for advert in held:
            if advert.site not in members:
                raise invalid_parties(f"site {advert.site} is not one the roster lets take part")
            advert.verify(context=context, identity=members[advert.site])
        return cls(context=context, adverts=held)

    @cached_property
    def sites(self) -> tuple[SiteId, ...]:
        """Names in order."""
        return tuple(advert.site for advert in self.adverts)

    @property
    def threshold(self) -> int:
        """T: parties without which nothing is unmasked, more than two thirds."""
        return threshold(len(self.adverts))

    @cached_property
    def session(self) -> bytes:
        """sid, 32 bytes: which sum, among which parties with which keys."""
        parts: list[bytes] = []
        for advert in self.adverts:
            parts += [name_of(advert.site), advert.share_key, advert.mask_key, advert.commitment]
        return tagged_hash("sid", self.context, *parts)

    def advert(self, site: SiteId) -> Advert:
        """A party's advert."""
        return self.adverts[self.sites.index(site)]

    def index(self, site: SiteId) -> int:
        """Which share is a party's: 1 for the first."""
        return 1 + self.sites.index(site)

    def survivors_digest(self, sites: Iterable[SiteId]) -> bytes:
        """What a party signs of who has uploaded, 32 bytes."""
        return tagged_hash("u3", self.session, *sorted(map(name_of, sites)))


def threshold(num_parties: int) -> int:
    """T(n) = floor(2n / 3) + 1."""
    return 2 * num_parties // 3 + 1


def invalid_parties(what: str) -> PartiesInvalidError:
    """The error for sets of parties that cannot be those of one honest sum."""
    return PartiesInvalidError(
        "parties of a secure sum",
        what,
        "Do not go on with this sum; if it comes again, ask the operator.",
    )


def require_distinct(adverts: Iterable[Advert]) -> None:
    """Refuse a party that comes twice, and keys that are not all different and of 32 bytes.

    Raises:
        PartiesInvalidError: There is one.
    """
    sites: set[SiteId] = set()
    keys: set[bytes] = set()
    for advert in adverts:
        if advert.site in sites:
            raise invalid_parties(f"site {advert.site} comes twice")
        sites.add(advert.site)
        for key in (advert.share_key, advert.mask_key, advert.commitment):
            if len(key) != KEY_BYTES or key in keys:
                raise invalid_parties("two keys are the same, or one is not 32 bytes")
            keys.add(key)


def _digest(
    context: bytes, site: SiteId, share_key: bytes, mask_key: bytes, commitment: bytes
) -> bytes:
    return tagged_hash("adv", context, name_of(site), share_key, mask_key, commitment)
