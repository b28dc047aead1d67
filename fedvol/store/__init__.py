"""Records and weights on disk: runs, checkpoints, blobs by digest; SQLite or PostgreSQL."""

from fedvol.store.blobs import BlobStore
from fedvol.store.catalogue import SqlCatalogue
from fedvol.store.database import open_engine, prepare_schema
from fedvol.store.records import (
    ALL_SITES,
    CheckpointKind,
    CheckpointRecord,
    RoundKey,
    RoundRecord,
    RunRecord,
    SiteRound,
)
from fedvol.store.runs import RunStore
from fedvol.store.site import ConsentRecord, Decision, ProposalRecord, ReceiptRecord, SiteStore
from fedvol.store.tensor_files import StateFile, StateOnDisk, write_state

__all__ = [
    "ALL_SITES",
    "BlobStore",
    "CheckpointKind",
    "CheckpointRecord",
    "ConsentRecord",
    "Decision",
    "ProposalRecord",
    "ReceiptRecord",
    "RoundKey",
    "RoundRecord",
    "RunRecord",
    "RunStore",
    "SiteRound",
    "SiteStore",
    "SqlCatalogue",
    "StateFile",
    "StateOnDisk",
    "open_engine",
    "prepare_schema",
    "write_state",
]
