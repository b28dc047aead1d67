"""Every error fedvol raises on purpose, in one tree by who must act.

    FedvolError               status 1
    |- ConfigError            status 2   whoever wrote the study, the site file or the command
    |- DataError              status 3   the site that holds the volumes
    |- PrivacyError           status 4   the site's privacy officer
    |- FederationError        status 5   the operator of the run
    |- TransportError         status 6   whoever runs the link between site and server
    |- StoreError             status 7   whoever runs the disk or the database
    '- PluginError            status 1   whoever wrote the plugin

A class has one stable code. A message says where, what and what to do. Only the code and the
class's `title` ever leave a site: the message may carry a path or a name.
"""

from fedvol.errors.base import (
    FedvolError,
    Problem,
)
from fedvol.errors.config import (
    ConfigError,
    ConfigFileError,
    DeviceError,
    EngineError,
    NetworkConfigError,
    NoNormLayersError,
    OutputFolderError,
    PlanningError,
    StudyError,
    UsageError,
)
from fedvol.errors.data import (
    CaseStoreError,
    CaseTableError,
    ConstantVolumeError,
    DataError,
    DataFolderError,
    DuplicateVolumeError,
    EmptyLabelError,
    GeometryError,
    GridMismatchError,
    LabelValueError,
    NoCasesError,
    NonFiniteVoxelError,
    SplitError,
    SubjectOverlapError,
    TooManySkippedError,
    UnknownLabelError,
    VolumeMissingError,
    VolumeShapeError,
    VolumeTooLargeError,
    VolumeUnreadableError,
)
from fedvol.errors.federation import (
    ContributionError,
    FederationError,
    NoLabelsError,
    PlanMismatchError,
    QuorumError,
    TimeLimitError,
    TrainingDivergedError,
)
from fedvol.errors.identity import (
    CertificateError,
    IdentityError,
    InvitationError,
    InvitationExpiredError,
    InvitationRefusedError,
    KeyFileError,
    RosterConflictError,
    RosterDuplicateError,
    RosterError,
    RosterExpiredError,
    RosterNotYetValidError,
    RosterOutdatedError,
    RosterRootError,
    SignatureError,
    SiteNotActiveError,
    SiteNotInRosterError,
)
from fedvol.errors.plugin import (
    PluginError,
)
from fedvol.errors.privacy import (
    AuditError,
    CohortTooSmallError,
    NonFiniteUpdateError,
    PrivacyError,
    ReleaseRefusedError,
)
from fedvol.errors.store import (
    BlobDamagedError,
    CheckpointError,
    DiskFullError,
    FolderLockedError,
    ResultFileError,
    RunMismatchError,
    SchemaVersionError,
    StoreError,
    TransitionError,
)
from fedvol.errors.transport import (
    MessageError,
    SiteFailedError,
    TransportError,
)

__all__ = [
    "FedvolError",
    "Problem",
    "ConfigError",
    "ConfigFileError",
    "StudyError",
    "OutputFolderError",
    "UsageError",
    "NetworkConfigError",
    "NoNormLayersError",
    "DeviceError",
    "EngineError",
    "PlanningError",
    "DataError",
    "DataFolderError",
    "CaseTableError",
    "VolumeUnreadableError",
    "VolumeMissingError",
    "VolumeTooLargeError",
    "VolumeShapeError",
    "GridMismatchError",
    "GeometryError",
    "NonFiniteVoxelError",
    "ConstantVolumeError",
    "UnknownLabelError",
    "EmptyLabelError",
    "LabelValueError",
    "SubjectOverlapError",
    "DuplicateVolumeError",
    "TooManySkippedError",
    "NoCasesError",
    "SplitError",
    "CaseStoreError",
    "PrivacyError",
    "NonFiniteUpdateError",
    "ReleaseRefusedError",
    "CohortTooSmallError",
    "AuditError",
    "FederationError",
    "QuorumError",
    "ContributionError",
    "PlanMismatchError",
    "TrainingDivergedError",
    "TimeLimitError",
    "NoLabelsError",
    "TransportError",
    "MessageError",
    "SiteFailedError",
    "IdentityError",
    "KeyFileError",
    "SignatureError",
    "RosterError",
    "RosterRootError",
    "RosterOutdatedError",
    "RosterConflictError",
    "RosterExpiredError",
    "RosterNotYetValidError",
    "RosterDuplicateError",
    "SiteNotInRosterError",
    "SiteNotActiveError",
    "InvitationError",
    "InvitationExpiredError",
    "InvitationRefusedError",
    "CertificateError",
    "StoreError",
    "FolderLockedError",
    "SchemaVersionError",
    "BlobDamagedError",
    "DiskFullError",
    "RunMismatchError",
    "TransitionError",
    "CheckpointError",
    "ResultFileError",
    "PluginError",
]
