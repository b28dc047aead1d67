"""Records and weights on disk: runs, checkpoints, blobs by digest; SQLite or PostgreSQL."""

from fedvol.store.blobs import BlobStore
from fedvol.store.catalogue import SqlCatalogue
from fedvol.store.database import StoreAddress, open_engine, read_password
from fedvol.store.federation_records import (
    ActionRecord,
    AnswerRecord,
    ConsentRecord,
    ContributionKey,
    Decision,
    InvitationRecord,
    ProposalRecord,
    Role,
    RosterEntry,
    RunRequest,
    SiteKeysRecord,
    SiteRecord,
    SiteStanding,
    UserRecord,
    Wanted,
)
from fedvol.store.federation_store import FederationStore
from fedvol.store.pretrained import (
    PretrainedFile,
    export_weights,
    find_weights,
    import_weights,
    open_weights,
    read_record,
)
from fedvol.store.records import (
    ALL_SITES,
    CheckpointKind,
    CheckpointRecord,
    RoundKey,
    RoundRecord,
    RunRecord,
    SiteRound,
)
from fedvol.store.records_dump import dump_records, load_records
from fedvol.store.runs import RunStore
from fedvol.store.schema import require_empty
from fedvol.store.site import HeldConsent, HeldProposal, ReceiptRecord, SiteStore
from fedvol.store.tensor_files import StateFile, StateOnDisk, write_state

__all__ = [
    "ALL_SITES",
    "ActionRecord",
    "AnswerRecord",
    "BlobStore",
    "CheckpointKind",
    "CheckpointRecord",
    "ConsentRecord",
    "ContributionKey",
    "Decision",
    "FederationStore",
    "HeldConsent",
    "HeldProposal",
    "InvitationRecord",
    "PretrainedFile",
    "ProposalRecord",
    "ReceiptRecord",
    "Role",
    "RosterEntry",
    "RoundKey",
    "RoundRecord",
    "RunRecord",
    "RunRequest",
    "RunStore",
    "SiteKeysRecord",
    "SiteRecord",
    "SiteRound",
    "SiteStanding",
    "SiteStore",
    "SqlCatalogue",
    "StateFile",
    "StateOnDisk",
    "StoreAddress",
    "UserRecord",
    "Wanted",
    "dump_records",
    "export_weights",
    "find_weights",
    "import_weights",
    "load_records",
    "open_engine",
    "open_weights",
    "read_password",
    "read_record",
    "require_empty",
    "write_state",
]
