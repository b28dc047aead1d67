"""What a hospital keeps and decides: its folder, whom it trusts, its policy, its consents.

Knows neither torch nor training; `client` computes what was agreed to here.
"""

from fedvol.site.consent import Answering, approved, leave_site
from fedvol.site.explain import Explanation, explain
from fedvol.site.folder import SiteFolder, user_name
from fedvol.site.gate import Admitted, Gate
from fedvol.site.joining import (
    SiteIdentity,
    enrol_site,
    init_site,
    site_identity,
    take_invitation,
)
from fedvol.site.pausing import pause, resume
from fedvol.site.policy import is_within, violations
from fedvol.site.proposals import Proposed, open_proposal, read_proposal
from fedvol.site.status import StatusFile, read_status
from fedvol.site.sync import Sync, Synced
from fedvol.site.trust import current_roster, held_roster, take_roster

__all__ = [
    "Admitted",
    "Answering",
    "Explanation",
    "Gate",
    "Proposed",
    "SiteFolder",
    "SiteIdentity",
    "StatusFile",
    "Sync",
    "Synced",
    "approved",
    "current_roster",
    "enrol_site",
    "explain",
    "held_roster",
    "init_site",
    "is_within",
    "leave_site",
    "open_proposal",
    "pause",
    "read_proposal",
    "read_status",
    "resume",
    "site_identity",
    "take_invitation",
    "take_roster",
    "user_name",
    "violations",
]
