"""The server's side of a secure sum: uploads are added, and masks come off the sum alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from fedvol.errors import FedvolError, SecureSumFailedError
from fedvol.privacy.secagg.body import BodyCode
from fedvol.privacy.secagg.cohort import Cohort
from fedvol.privacy.secagg.ephemeral import public_key
from fedvol.privacy.secagg.keys import commitment, own_mask, pair_masks, together
from fedvol.privacy.secagg.masks import CHUNK_WORDS, apply_masks, pieces
from fedvol.privacy.secagg.party import Unmasking
from fedvol.privacy.secagg.rotation import READ_AT_ONCE, Rotation
from fedvol.privacy.secagg.shamir import join
from fedvol.privacy.secagg.tail import TAIL_DTYPE, decode_tail
from fedvol.privacy.secagg.upload import SiteMasks, Upload
from fedvol.types import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """What is known of all sites together.

    Attributes:
        mean: Weighted mean of the updates as one row of values, float32.
        weight: Sum of the weights.
        figures: Sum of each figure of the terms.
    """

    mean: NDArray[np.float32]
    weight: int
    figures: tuple[float, ...]


@final
class MaskedSum:
    """Words of uploads, added as they arrive: whole numbers have no order.

    Args:
        code: Of the body.
    """

    def __init__(self, code: BodyCode) -> None:
        self._code = code
        self._body = np.zeros(code.num_words, dtype=code.dtype)
        self._tail = np.zeros(1 + len(code.terms.tail), dtype=TAIL_DTYPE)

    def add(self, upload: Upload, *, site: SiteId) -> None:
        """Add a site's upload.

        Raises:
            SecureSumFailedError: It is of another size or type than agreed; nothing was added.
        """
        for words, held in ((upload.body, self._body), (upload.tail, self._tail)):
            if words.shape != held.shape or words.dtype != held.dtype:
                raise SecureSumFailedError(
                    f"upload of site {site}",
                    "it has another number or type of words than the sum",
                    "Leave the site out of the next round until it runs the server's version.",
                )
        np.add(self._body, upload.body, out=self._body)
        np.add(self._tail, upload.tail, out=self._tail)

    def unmasked(self, left: SiteMasks, *, context: bytes, num_threads: int = 1) -> Summed:
        """Take off the masks that are left, and read the sum; once.

        Args:
            left: What `masks_left` found.
            context: Of the sum.
            num_threads: Each does a part of the body.

        Raises:
            SecureSumFailedError: The sum of the weights cannot be: a mask is still on.
        """
        apply_masks(self._tail, left.tail.reversed())
        weight, figures = decode_tail(self._tail)
        if not 1 <= weight <= self._code.terms.max_weight * self._code.num_parties:
            raise SecureSumFailedError(
                "secure sum",
                f"its weights add up to {weight}, which cannot be",
                "Play the next round; if it happens again, a site sends other words than agreed.",
            )
        apply_masks(self._body, left.body.reversed(), num_threads=num_threads)
        return Summed(mean=self._decoded(weight, context), weight=weight, figures=figures)

    def _decoded(self, weight: int, context: bytes) -> NDArray[np.float32]:
        num_values, code = self._code.terms.num_values, self._code
        mean = np.empty(code.num_words, dtype=np.float32)
        rotation = Rotation(context, num_values=num_values) if code.terms.bits == 16 else None
        for at in pieces(
            range(code.num_words), each=CHUNK_WORDS if rotation is None else READ_AT_ONCE
        ):
            values = code.decode(self._body[at.start : at.stop], total_weight=weight)
            if rotation is None:
                mean[at.start : at.stop] = values
            else:
                rotation.put(values.astype(np.float32), at=at, into=mean)
        return mean[:num_values]


def masks_left(
    cohort: Cohort,
    *,
    sharing: Collection[SiteId],
    uploaded: Collection[SiteId],
    answers: Mapping[SiteId, Unmasking],
) -> SiteMasks:
    """The masks on the sum of all uploads: own ones of who uploaded, pairs of who did not.

    Args:
        cohort: The parties.
        sharing: Those that sent shares.
        uploaded: Those of them whose uploads are in the sum.
        answers: What parties gave away at the end.

    Raises:
        SecureSumFailedError: Too few answered, or what they gave does not fit what was advertised.
    """
    if len(answers) < cohort.threshold:
        raise SecureSumFailedError(
            "secure sum, last stage",
            f"{len(answers)} sites gave their shares, and {cohort.threshold} must",
            "Play the next round.",
        )
    found: list[SiteMasks] = []
    for site in sorted(uploaded):
        shares = {of: given.seed_shares.get(site) for of, given in answers.items()}
        seed = _joined(cohort, site, shares)
        if commitment(seed, context=cohort.context, site=site) != cohort.advert(site).commitment:
            raise _unlike(site)
        found.append(own_mask(seed, cohort=cohort, site=site))
    for site in sorted(set(sharing) - set(uploaded)):
        shares = {of: given.key_shares.get(site) for of, given in answers.items()}
        key = _joined(cohort, site, shares)
        if public_key(key) != cohort.advert(site).mask_key:
            raise _unlike(site)
        others = sorted(uploaded)
        pairs = pair_masks(key, cohort=cohort, site=site, others=others)
        found.append(pairs.reversed())
    return together(found)


def _joined(cohort: Cohort, site: SiteId, shares: Mapping[SiteId, bytes | None]) -> bytes:
    given = {cohort.index(of): share for of, share in shares.items() if share is not None}
    try:
        return join(given, threshold=cohort.threshold)
    except FedvolError as error:
        raise SecureSumFailedError(
            f"secure sum, keys of site {site}", error.what, "Play the next round."
        ) from error


def _unlike(site: SiteId) -> SecureSumFailedError:
    return SecureSumFailedError(
        f"secure sum, keys of site {site}",
        "the shares that sites gave do not make what it advertised",
        "Play the next round; if it happens again, a site gives false shares.",
    )
