"""`Party`: a site's side of one secure sum, step by step, each step once and none taken back.

What a site says follows from its own view: it never takes from the server whose secrets it should
give away. Two servers' views of who took part cannot both get enough signatures, because a party
signs one of them and more than two thirds are needed.

Reference: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", figure 4, with the consistency round that an active server makes necessary.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import final

from fedvol.errors import (
    SecureSumOrderError,
    SignatureError,
    SurvivorsDisputedError,
    TooFewPartiesError,
)
from fedvol.identity import IdentityKey, PublicKey, Tag
from fedvol.privacy.secagg.cohort import Advert, Cohort, invalid_parties
from fedvol.privacy.secagg.ephemeral import SiteSecrets, agree, public_key
from fedvol.privacy.secagg.keys import commitment, own_mask, pair_masks, seal_key, together
from fedvol.privacy.secagg.sealing import seal, unseal
from fedvol.privacy.secagg.shamir import split
from fedvol.privacy.secagg.upload import SiteMasks
from fedvol.types import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmasking:
    """What a party gives away at the end, and of each party one kind alone.

    Attributes:
        seed_shares: Shares of the seeds of those who uploaded.
        key_shares: Shares of the mask keys of those who did not.
    """

    seed_shares: Mapping[SiteId, bytes] = field(default_factory=dict[SiteId, bytes])
    key_shares: Mapping[SiteId, bytes] = field(default_factory=dict[SiteId, bytes])


class _Step(IntEnum):
    NEW = 0
    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    SIGNED = 4
    UNMASKED = 5
    LEFT = 6


@final
class Party:
    """One site in one sum. After an error it takes part no further and has forgotten its secrets.

    Args:
        site: Which site.
        context: What the sum is about, as the site computed it itself.
        identity: The site's key.
        members: Identity keys of the sites that the site's own roster lets take part.
        min_parties: Fewer are not enough for this site.
        claim: Notes durably that the site uploads in this round; raises where it has before.
        secrets: Of this sum; drawn anew unless a test says otherwise.
    """

    def __init__(
        self,
        *,
        site: SiteId,
        context: bytes,
        identity: IdentityKey,
        members: Mapping[SiteId, PublicKey],
        min_parties: int,
        claim: Callable[[], None],
        secrets: SiteSecrets | None = None,
    ) -> None:
        self._site = site
        self._context = context
        self._identity = identity
        self._members = dict(members)
        self._min_parties = min_parties
        self._claim = claim
        self._secrets: SiteSecrets | None = secrets or SiteSecrets.draw()
        self._step = _Step.NEW
        self._own: Advert | None = None
        self._cohort: Cohort | None = None
        self._held: dict[SiteId, tuple[bytes, bytes]] = {}
        self._survivors: frozenset[SiteId] = frozenset()

    def advertise(self) -> Advert:
        """Stage 0: public keys and a commitment, signed.

        Raises:
            SecureSumOrderError: It was done before.
        """
        with self._doing(_Step.NEW) as secrets:
            self._own = Advert.signed(
                self._site,
                share_key=public_key(secrets.share_key),
                mask_key=public_key(secrets.mask_key),
                commitment=commitment(secrets.seed, context=self._context, site=self._site),
                context=self._context,
                identity=self._identity,
            )
            return self._own

    def share(self, adverts: Iterable[Advert]) -> Mapping[SiteId, bytes]:
        """Stage 1: shares of seed and mask key, sealed for each of the others.

        Args:
            adverts: Of every party, this one's among them.

        Raises:
            SecureSumOrderError: It is not this step's turn.
            TooFewPartiesError: There are fewer than the site asks for.
            PartiesInvalidError: The parties cannot be those of one honest sum.
            AdvertInvalidError: An advert is not of this round, model, roster and terms.
        """
        with self._doing(_Step.ADVERTISED) as secrets:
            given = list(adverts)
            if self._own not in given:
                raise invalid_parties("this site's own advert is not as it was sent")
            if len({advert.site for advert in given}) < self._min_parties:
                raise TooFewPartiesError(
                    f"secure sum at site {self._site}",
                    f"{len(given)} parties, and the site asks for {self._min_parties}",
                    "Wait for more sites, or lower policy.secure_sum.min_parties if the "
                    "hospital's rules allow it.",
                )
            cohort = Cohort.of(given, context=self._context, members=self._members)
            self._cohort = cohort
            num, needed = len(cohort.sites), cohort.threshold
            seeds = split(secrets.seed, threshold=needed, num_shares=num)
            keys = split(secrets.mask_key, threshold=needed, num_shares=num)
            shares = dict(zip(cohort.sites, zip(seeds, keys, strict=True), strict=True))
            self._held[self._site] = shares[self._site]
            return {
                other: seal(
                    *shares[other],
                    key=self._seal_key(secrets, cohort, sender=self._site, receiver=other),
                    cohort=cohort,
                    sender=self._site,
                    to=other,
                )
                for other in cohort.sites
                if other != self._site
            }

    def masks(self, sealed: Mapping[SiteId, bytes]) -> SiteMasks:
        """Stage 2: the masks of the upload, after a note that there is one.

        Args:
            sealed: Shares from each of the others that sent any.

        Raises:
            SecureSumOrderError: It is not this step's turn, or the site has uploaded in this round.
            TooFewPartiesError: Fewer than the threshold sent shares.
            PartiesInvalidError: Some are of nobody in the cohort.
            ShareInvalidError: Some do not open.
        """
        with self._doing(_Step.SHARED) as secrets:
            cohort = self._require_cohort()
            if self._site in sealed:
                raise invalid_parties("shares from this site to itself")
            sharing = self._require_subset((*sealed, self._site), of=cohort.sites)
            for other, shares in sealed.items():
                self._held[other] = unseal(
                    shares,
                    key=self._seal_key(secrets, cohort, sender=other, receiver=self._site),
                    cohort=cohort,
                    sender=other,
                    to=self._site,
                )
            own = own_mask(secrets.seed, cohort=cohort, site=self._site)
            pairs = pair_masks(
                secrets.mask_key, cohort=cohort, site=self._site, others=sorted(sharing)
            )
            self._claim()
            return together((own, pairs))

    def sign(self, uploaded: Collection[SiteId]) -> bytes:
        """Stage 3: a signature over who has uploaded, as the server tells it.

        Raises:
            SecureSumOrderError: It is not this step's turn.
            TooFewPartiesError: Fewer than the threshold have.
            PartiesInvalidError: This site is not among them, or somebody is who sent no shares.
        """
        with self._doing(_Step.MASKED):
            survivors = self._require_subset(uploaded, of=self._held)
            self._survivors = survivors
            digest = self._require_cohort().survivors_digest(survivors)
            return self._identity.sign(Tag.SECURE_SUM_SURVIVORS, digest)

    def unmask(self, signatures: Mapping[SiteId, bytes]) -> Unmasking:
        """Stage 4: shares that take the masks off the sum, of each party one kind alone.

        Args:
            signatures: Of parties that uploaded, over who did.

        Raises:
            SecureSumOrderError: It is not this step's turn.
            SurvivorsDisputedError: Fewer than the threshold signed what this site signed.
        """
        with self._doing(_Step.SIGNED):
            cohort = self._require_cohort()
            digest = cohort.survivors_digest(self._survivors)
            signed = [
                site
                for site, signature in signatures.items()
                if site in self._survivors
                and _holds(self._members[site], digest, signature, site=site)
            ]
            if len(signed) < cohort.threshold:
                raise SurvivorsDisputedError(
                    f"secure sum at site {self._site}",
                    f"{len(signed)} parties signed the same list of uploads as this site, and "
                    f"{cohort.threshold} must",
                    "Do not go on with this sum; if it comes again, ask the operator whether "
                    "sites were shown different lists.",
                )
            given = Unmasking(
                seed_shares={
                    site: seed for site, (seed, _) in self._held.items() if site in self._survivors
                },
                key_shares={
                    site: key
                    for site, (_, key) in self._held.items()
                    if site not in self._survivors
                },
            )
        self.leave()
        return given

    def leave(self) -> None:
        """Take part no further, and forget every secret."""
        self._step = _Step.LEFT
        self._secrets = None
        self._held = {}

    def _seal_key(
        self, secrets: SiteSecrets, cohort: Cohort, *, sender: SiteId, receiver: SiteId
    ) -> bytes:
        other = receiver if sender == self._site else sender
        agreed = agree(secrets.share_key, cohort.advert(other).share_key)
        return seal_key(agreed, cohort=cohort, sender=sender, receiver=receiver)

    def _require_cohort(self) -> Cohort:
        assert self._cohort is not None
        return self._cohort

    def _require_subset(
        self, sites: Collection[SiteId], *, of: Collection[SiteId]
    ) -> frozenset[SiteId]:
        found, needed = frozenset(sites), self._require_cohort().threshold
        if len(found) != len(sites) or not found <= frozenset(of) or self._site not in found:
            raise invalid_parties(
                "a list of parties that names one twice, leaves this site out, or names one that "
                "was not there a step before"
            )
        if len(found) < needed:
            raise TooFewPartiesError(
                f"secure sum at site {self._site}",
                f"{len(found)} parties are left, and {needed} are needed",
                "Play the next round.",
            )
        return found

    @contextmanager
    def _doing(self, step: _Step) -> Generator[SiteSecrets]:
        """What follows one step, in its turn; whatever goes wrong in it is the end of the party."""
        try:
            if self._step is not step or self._secrets is None:
                raise SecureSumOrderError(
                    f"secure sum at site {self._site}",
                    "a step is asked for that is not its turn, or was done before",
                    "Play the next round; no step of a sum is done twice.",
                )
            self._step = _Step(step + 1)
            yield self._secrets
        except BaseException:
            self.leave()
            raise


def _holds(key: PublicKey, digest: bytes, signature: bytes, *, site: SiteId) -> bool:
    try:
        key.verify(Tag.SECURE_SUM_SURVIVORS, digest, signature, where=f"signature of {site}")
    except SignatureError:
        return False
    return True
