"""Whoever runs the disk or the database must act: status 7."""

from fedvol.errors.base import FedvolError


class StoreError(FedvolError):
    """Records or files on disk cannot be used."""

    code = "FV-STORE-000"
    title = "store failed"
    exit_status = 7


class FolderLockedError(StoreError):
    """Another live process holds the folder."""

    code = "FV-STORE-001"
    title = "folder in use"


class SchemaVersionError(StoreError):
    """A database was written by another version."""

    code = "FV-STORE-002"
    title = "store of another version"


class BlobDamagedError(StoreError):
    """A stored file's content does not match its digest."""

    code = "FV-STORE-003"
    title = "stored file damaged"


class DiskFullError(StoreError):
    """No space is left where a file must be written."""

    code = "FV-STORE-004"
    title = "disk full"


class RunMismatchError(StoreError):
    """A folder holds the records of another run."""

    code = "FV-STORE-005"
    title = "records of another run"


class TransitionError(StoreError):
    """A run or round was asked to move to a state that cannot follow its present one."""

    code = "FV-STORE-006"
    title = "impossible transition"


class CheckpointError(StoreError):
    """A checkpoint is not of this architecture or plan."""

    code = "FV-STORE-007"
    title = "checkpoint does not fit"


class BackupError(StoreError):
    """A backup is damaged, not whole, or none."""

    code = "FV-STORE-011"
    title = "backup unusable"


class ResultFileError(StoreError):
    """A `result.json` is absent, not JSON or not of this version's schema."""

    code = "FV-STORE-010"
    title = "result file unreadable"


class AnsweredMeanwhileError(StoreError):
    """A proposal was answered by somebody else while this answer was decided."""

    code = "FV-STORE-012"
    title = "answered meanwhile"
