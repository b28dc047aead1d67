"""Who is who: keys, the root-signed roster, invitations, TLS certificates, signed bodies.

The one door to `cryptography`; no network, no torch. A key signs for one purpose (`Tag`) at a time.
"""

from fedvol.identity.acceptance import SignedRoster, accept
from fedvol.identity.certificates import Authority
from fedvol.identity.drafts import RosterDraft, next_roster
from fedvol.identity.invitation import Invitation, require_in_time, token_digest
from fedvol.identity.keys import IdentityKey, PublicKey, PublicKeyField
from fedvol.identity.moments import Moment, write_moment
from fedvol.identity.node_key import NodeKey, NodePublicKey, NodePublicKeyField
from fedvol.identity.root import RootFolder, RootRecord
from fedvol.identity.roster import Roster, ServerEntry, SiteEntry, SiteStatus, site_fingerprint
from fedvol.identity.roster_changes import Change, ChangeKind, roster_changes
from fedvol.identity.signed import SignedBody, open_body, sign_body
from fedvol.identity.tags import Tag, tagged_digest
from fedvol.identity.tls import (
    check_server_certificate,
    client_context,
    server_context,
)

__all__ = [
    "Authority",
    "Change",
    "ChangeKind",
    "IdentityKey",
    "Invitation",
    "Moment",
    "NodeKey",
    "NodePublicKey",
    "NodePublicKeyField",
    "PublicKey",
    "PublicKeyField",
    "RootFolder",
    "RootRecord",
    "Roster",
    "RosterDraft",
    "ServerEntry",
    "SignedBody",
    "SignedRoster",
    "SiteEntry",
    "SiteStatus",
    "Tag",
    "accept",
    "check_server_certificate",
    "client_context",
    "next_roster",
    "open_body",
    "require_in_time",
    "roster_changes",
    "server_context",
    "sign_body",
    "site_fingerprint",
    "tagged_digest",
    "token_digest",
    "write_moment",
]
