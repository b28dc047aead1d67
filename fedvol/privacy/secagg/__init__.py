"""Secure aggregation `fedvol/secagg/v1`: the server learns the sum of updates, and no update.

Masks that sites agree on in pairs cancel in the sum; each site's own mask comes off at the end,
with shares of its seed that more than two thirds of the sites give. Whoever drops out is made good
for, and an active server that shows sites different things gets nothing. No torch.
"""

from fedvol.privacy.secagg.body import BodyCode
from fedvol.privacy.secagg.cohort import Advert, Cohort, threshold
from fedvol.privacy.secagg.context import Terms, context_digest
from fedvol.privacy.secagg.masked_sum import MaskedSum, Summed, masks_left
from fedvol.privacy.secagg.party import Party, Unmasking
from fedvol.privacy.secagg.upload import SiteMasks, Upload, code_of, masked_upload

__all__ = [
    "Advert",
    "BodyCode",
    "Cohort",
    "MaskedSum",
    "Party",
    "SiteMasks",
    "Summed",
    "Terms",
    "Unmasking",
    "Upload",
    "code_of",
    "context_digest",
    "masked_upload",
    "masks_left",
    "threshold",
]
