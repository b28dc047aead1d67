"""What is derived from ephemeral keys: the seal of shares, and the masks."""

from collections.abc import Iterable

from fedvol.privacy.secagg.cohort import Cohort
from fedvol.privacy.secagg.context import name_of
from fedvol.privacy.secagg.ephemeral import agree
from fedvol.privacy.secagg.hashing import derive_key, tagged_hash
from fedvol.privacy.secagg.masks import Masks
from fedvol.privacy.secagg.upload import SiteMasks
from fedvol.types import SiteId


def commitment(seed: bytes, *, context: bytes, site: SiteId) -> bytes:
    """h: a hash by which a seed that is given away later is known to be the one advertised."""
    return tagged_hash("commit-b", context, name_of(site), seed)


def seal_key(agreed: bytes, *, cohort: Cohort, sender: SiteId, receiver: SiteId) -> bytes:
    """k: under which a sender's shares travel to one receiver."""
    return derive_key(agreed, "enc", name_of(sender), name_of(receiver), salt=cohort.session)


def own_mask(seed: bytes, *, cohort: Cohort, site: SiteId) -> SiteMasks:
    """The mask of a site's own seed, which is added."""
    name, salt = name_of(site), cohort.session
    return SiteMasks(
        body=Masks(added=(derive_key(seed, "self", name, salt=salt),)),
        tail=Masks(added=(derive_key(seed, "self-tail", name, salt=salt),)),
    )


def pair_masks(
    mask_key: bytes, *, cohort: Cohort, site: SiteId, others: Iterable[SiteId]
) -> SiteMasks:
    """The masks a site shares with others: added towards those after it, taken away before it.

    Args:
        mask_key: The site's private key, s.
        cohort: The parties.
        site: Whose masks.
        others: With whom; itself is left out.

    Raises:
        PartiesInvalidError: A key of theirs is of small order.
    """
    added: list[tuple[bytes, bytes]] = []
    subtracted: list[tuple[bytes, bytes]] = []
    for other in others:
        if other == site:
            continue
        agreed = agree(mask_key, cohort.advert(other).mask_key)
        first, second = sorted((name_of(site), name_of(other)))
        keys = (
            derive_key(agreed, "mask", first, second, salt=cohort.session),
            derive_key(agreed, "mask-tail", first, second, salt=cohort.session),
        )
        (added if first == name_of(site) else subtracted).append(keys)
    return SiteMasks(
        body=Masks(
            added=tuple(body for body, _ in added),
            subtracted=tuple(body for body, _ in subtracted),
        ),
        tail=Masks(
            added=tuple(tail for _, tail in added),
            subtracted=tuple(tail for _, tail in subtracted),
        ),
    )


def together(masks: Iterable[SiteMasks]) -> SiteMasks:
    """All masks at once."""
    every = list(masks)
    return SiteMasks(
        body=_joined(one.body for one in every), tail=_joined(one.tail for one in every)
    )


def _joined(masks: Iterable[Masks]) -> Masks:
    every = list(masks)
    return Masks(
        added=tuple(key for one in every for key in one.added),
        subtracted=tuple(key for one in every for key in one.subtracted),
    )
