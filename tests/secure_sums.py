"""Parties of a secure sum in one process, with or without an honest server between them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedvol.identity import IdentityKey, PublicKey
from fedvol.privacy.secagg import (
    Advert,
    Cohort,
    MaskedSum,
    Party,
    Summed,
    Terms,
    Unmasking,
    code_of,
    context_digest,
    masked_upload,
    masks_left,
)
from fedvol.privacy.secagg.ephemeral import SiteSecrets
from fedvol.privacy.secagg.masks import Masks, Words, apply_masks
from fedvol.types import Digest, SiteId, State

HASH = Digest(sha256(b"anything").hexdigest())


def names(num: int) -> tuple[SiteId, ...]:
    return tuple(SiteId(f"site-{index:02d}") for index in range(num))


def vector_secrets(site: str) -> SiteSecrets:
    """The secrets of the design's test vectors."""
    drawn = {part: sha256(f"tv/{part}/{site}".encode()).digest() for part in "csb"}
    return SiteSecrets(share_key=drawn["c"], mask_key=drawn["s"], seed=drawn["b"])


def vector_identity(site: str) -> IdentityKey:
    seed = sha256(f"tv/id/{site}".encode()).digest()
    return IdentityKey(Ed25519PrivateKey.from_private_bytes(seed))


def nothing() -> None:
    """A claim that is always granted."""


@dataclass(kw_only=True)
class Sites:
    """All parties of one sum.

    Attributes:
        terms: Of the sum.
        sites: Who takes part.
        context: What the sum is about.
        min_parties: What each site asks for.
    """

    terms: Terms
    sites: Sequence[SiteId]
    context: bytes = b""
    min_parties: int = 3
    parties: dict[SiteId, Party] = field(default_factory=dict[SiteId, Party])

    def __post_init__(self) -> None:
        self.context = self.context or context_digest(
            job="job-1", round_index=7, roster=HASH, model=HASH, terms=self.terms.digest
        )
        for site in self.sites:
            self.parties[site] = self.party(site)

    @property
    def members(self) -> dict[SiteId, PublicKey]:
        return {site: vector_identity(site).public for site in self.sites}

    def party(self, site: SiteId, *, context: bytes = b"") -> Party:
        return Party(
            site=site,
            context=context or self.context,
            identity=vector_identity(site),
            members=self.members,
            min_parties=self.min_parties,
            claim=nothing,
            secrets=vector_secrets(site),
        )

    def adverts(self) -> list[Advert]:
        return [party.advertise() for party in self.parties.values()]

    def sealed(self, adverts: Sequence[Advert]) -> dict[SiteId, Mapping[SiteId, bytes]]:
        return {advert.site: self.parties[advert.site].share(adverts) for advert in adverts}

    def summed(
        self,
        updates: Mapping[SiteId, State],
        *,
        weights: Mapping[SiteId, int],
        figures: Mapping[SiteId, Sequence[float]] | None = None,
        silent_at: Mapping[int, Collection[SiteId]] | None = None,
        num_threads: int = 1,
    ) -> Summed:
        """The sum as an honest server makes it.

        Args:
            updates: Of each site.
            weights: Of each site.
            figures: Of each site; none where the terms have no tail.
            silent_at: Sites that say nothing in a stage and after it: 1 to 4.
            num_threads: As for `masked_upload`.
        """
        silent = {stage: set((silent_at or {}).get(stage, ())) for stage in (1, 2, 3, 4)}
        adverts = self.adverts()
        cohort = Cohort.of(adverts, context=self.context, members=self.members)
        sharing = [site for site in cohort.sites if site not in silent[1]]
        sealed = {site: self.parties[site].share(adverts) for site in sharing}
        uploading = [site for site in sharing if site not in silent[2]]
        code = code_of(self.terms, num_parties=len(cohort.sites))
        total = MaskedSum(code)
        for site in uploading:
            masks = self.parties[site].masks(
                {other: sealed[other][site] for other in sharing if other != site}
            )
            upload = masked_upload(
                updates[site],
                names=list(updates[site]),
                weight=weights[site],
                figures=(figures or {}).get(site, ()),
                code=code,
                masks=masks,
                context=self.context,
                num_threads=num_threads,
            )
            total.add(upload, site=site)
        signing = [site for site in uploading if site not in silent[3]]
        signatures = {site: self.parties[site].sign(uploading) for site in signing}
        answers: dict[SiteId, Unmasking] = {
            site: self.parties[site].unmask(signatures) for site in signing if site not in silent[4]
        }
        left = masks_left(cohort, sharing=sharing, uploaded=uploading, answers=answers)
        return total.unmasked(left, context=self.context, num_threads=num_threads)


def keystream(key: bytes, *, num_words: int, dtype: np.dtype[Any]) -> Words:
    """The first words of a key's keystream."""
    words = np.zeros(num_words, dtype=dtype)
    apply_masks(words, Masks(added=(key,)))
    return words


def random_updates(
    sites: Sequence[SiteId], *, sizes: Sequence[int], norm: float, seed: int = 0
) -> dict[SiteId, State]:
    """Updates of tensors of these sizes, each of this L2 norm."""
    rng = np.random.default_rng(seed)
    updates: dict[SiteId, State] = {}
    for site in sites:
        rows = [rng.normal(size=size).astype(np.float32) for size in sizes]
        length = float(np.sqrt(sum(np.square(row, dtype=np.float64).sum() for row in rows)))
        updates[site] = {
            f"tensor.{index}": (row * np.float32(norm / length)) for index, row in enumerate(rows)
        }
    return updates


def flat(state: State) -> np.ndarray:
    """A state's values in one row, float64."""
    return np.concatenate([np.asarray(row, dtype=np.float64).reshape(-1) for row in state.values()])
