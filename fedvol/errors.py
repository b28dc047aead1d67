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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class FedvolError(Exception):
    """Root of the tree.

    Args:
        where: The file, key, case, site or round concerned.
        what: What is wrong, without a full stop.
        fix: What to do about it, a sentence.
    """

    code: ClassVar[str] = "FV-000"
    title: ClassVar[str] = "fedvol failed"
    exit_status: ClassVar[int] = 1

    def __init__(self, where: str, what: str, fix: str) -> None:
        super().__init__(where, what, fix)
        self.where = where
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.code} {self.where}: {self.what}. {self.fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding of a check that collects all of them.

    Attributes:
        where: Key path, file or case.
        what: Reason, without a full stop.
        fix: What to do, a sentence.
    """

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.fix}"


# --- configuration ---------------------------------------------------------------------------


class ConfigError(FedvolError):
    """A study, site or server file, or a command, is wrong."""

    code = "FV-CONF-000"
    title = "wrong use or configuration"
    exit_status = 2


class ConfigFileError(ConfigError):
    """A configuration file is absent, unreadable or not TOML."""

    code = "FV-CONF-001"
    title = "configuration file unreadable"


class StudyError(ConfigError):
    """A study breaks its schema or contradicts itself; carries every problem found."""

    code = "FV-CONF-002"
    title = "study invalid"

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        num = len(problems)
        noun = "problem" if num == 1 else "problems"
        super().__init__(where, f"{num} {noun}", "Mend each of them and check again.")
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [f"{self.code} {self.where}: {self.what}", *(f"  {p}" for p in self.problems)]
        return "\n".join(lines)


class OutputFolderError(ConfigError):
    """The output folder already holds something else, or cannot be written."""

    code = "FV-CONF-003"
    title = "output folder unusable"


class UsageError(ConfigError):
    """A command was given options that do not fit together."""

    code = "FV-CONF-004"
    title = "wrong use of a command"


class NetworkConfigError(ConfigError):
    """A network cannot be built, or cannot take the patch, as configured."""

    code = "FV-CONF-005"
    title = "network configuration impossible"


class NoNormLayersError(ConfigError):
    """FedBN was asked of a network that has no norm layer."""

    code = "FV-CONF-006"
    title = "network without norm layers"


class DeviceError(ConfigError):
    """The device asked for is not there."""

    code = "FV-CONF-007"
    title = "device unavailable"


class EngineError(ConfigError):
    """The engine that a simulation was to run on is not installed, or does not start."""

    code = "FV-CONF-008"
    title = "engine unavailable"


class CompileError(ConfigError):
    """A study asks for compiled networks, and this one cannot be compiled, or not here."""

    code = "FV-CONF-010"
    title = "network cannot be compiled"


class PlanningError(ConfigError):
    """The sites' data do not allow a plan, or not within what the study fixes."""

    code = "FV-CONF-020"
    title = "no plan possible"


# --- data ------------------------------------------------------------------------------------


class DataError(FedvolError):
    """A site's data is missing, broken or contradicts the study."""

    code = "FV-DATA-000"
    title = "data unusable"
    exit_status = 3


class DataFolderError(DataError):
    """A data folder is absent or has no layout we know."""

    code = "FV-DATA-001"
    title = "data folder unusable"


class CaseTableError(DataError):
    """The table of cases (CSV or dataset.json) is wrong; carries every problem found."""

    code = "FV-DATA-002"
    title = "case table invalid"

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        num = len(problems)
        noun = "problem" if num == 1 else "problems"
        super().__init__(where, f"{num} {noun}", "Mend each of them and try again.")
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [f"{self.code} {self.where}: {self.what}", *(f"  {p}" for p in self.problems)]
        return "\n".join(lines)


class VolumeUnreadableError(DataError):
    """A volume's file is broken or not of the kind its name says."""

    code = "FV-DATA-003"
    title = "volume unreadable"


class VolumeMissingError(DataError):
    """A file that the case table names is not there."""

    code = "FV-DATA-004"
    title = "volume missing"


class VolumeTooLargeError(DataError):
    """A header claims more voxels than the stated limit."""

    code = "FV-DATA-005"
    title = "volume too large"


class VolumeShapeError(DataError):
    """A volume has the wrong number of axes or channels, or a degenerate axis."""

    code = "FV-DATA-006"
    title = "volume of wrong shape"


class GridMismatchError(DataError):
    """Image and label, or two channels, do not lie on one grid."""

    code = "FV-DATA-007"
    title = "grids differ"


class GeometryError(DataError):
    """An affine is singular, sheared, non-finite, or qform and sform disagree."""

    code = "FV-DATA-008"
    title = "geometry unusable"


class NonFiniteVoxelError(DataError):
    """A volume holds NaN or infinite voxels."""

    code = "FV-DATA-009"
    title = "non-finite voxels"


class ConstantVolumeError(DataError):
    """An image has one value everywhere."""

    code = "FV-DATA-010"
    title = "image without contrast"


class UnknownLabelError(DataError):
    """A label volume holds a value that the study does not name."""

    code = "FV-DATA-011"
    title = "unknown label value"


class EmptyLabelError(DataError):
    """A label volume holds background only."""

    code = "FV-DATA-012"
    title = "empty label"


class LabelValueError(DataError):
    """A label volume holds values that are not whole numbers."""

    code = "FV-DATA-013"
    title = "label values not whole numbers"


class SubjectOverlapError(DataError):
    """A subject is in two splits or at two sites."""

    code = "FV-DATA-014"
    title = "subject in two places"


class DuplicateVolumeError(DataError):
    """Two cases hold the same image."""

    code = "FV-DATA-015"
    title = "same image twice"


class TooManySkippedError(DataError):
    """More cases were skipped than the study allows."""

    code = "FV-DATA-016"
    title = "too many cases skipped"


class NoCasesError(DataError):
    """A site or a split has no usable case."""

    code = "FV-DATA-017"
    title = "no usable case"


class SplitError(DataError):
    """A split the study names is not in the data."""

    code = "FV-DATA-018"
    title = "split not in the data"


class CaseStoreError(DataError):
    """A preprocessed case is damaged or of another study."""

    code = "FV-DATA-019"
    title = "case store damaged"


# --- privacy ---------------------------------------------------------------------------------


class PrivacyError(FedvolError):
    """The site's own rule forbids it."""

    code = "FV-PRIV-000"
    title = "refused by the site's rule"
    exit_status = 4


class NonFiniteUpdateError(PrivacyError):
    """An update holds NaN or infinite values and does not leave the site."""

    code = "FV-PRIV-001"
    title = "update not finite"


class ReleaseRefusedError(PrivacyError):
    """What was about to leave is not what the plan names."""

    code = "FV-PRIV-002"
    title = "release refused"


class CohortTooSmallError(PrivacyError):
    """The site has fewer training subjects than its own floor."""

    code = "FV-PRIV-003"
    title = "cohort below the site's floor"


class AuditError(PrivacyError):
    """The audit log cannot be written or does not verify; nothing leaves."""

    code = "FV-PRIV-004"
    title = "audit log unusable"


# --- federation ------------------------------------------------------------------------------


class FederationError(FedvolError):
    """A run cannot go on."""

    code = "FV-FED-000"
    title = "federation failed"
    exit_status = 5


class QuorumError(FederationError):
    """Fewer sites took part than the study's minimum."""

    code = "FV-FED-001"
    title = "too few sites"


class ContributionError(FederationError):
    """A site's reply does not fit the request: names, shapes, types, values or weights."""

    code = "FV-FED-002"
    title = "contribution invalid"


class PlanMismatchError(FederationError):
    """A site computes another network, plan or version than the run's."""

    code = "FV-FED-003"
    title = "plan differs"


class TrainingDivergedError(FederationError):
    """The loss became NaN or infinite at a site."""

    code = "FV-FED-004"
    title = "training diverged"


class TimeLimitError(FederationError):
    """A site did not answer within the stated limit."""

    code = "FV-FED-005"
    title = "time limit passed"


class NoLabelsError(FederationError):
    """A site has no labelled case for this stage and sits it out."""

    code = "FV-FED-006"
    title = "no labels"


# --- transport -------------------------------------------------------------------------------


class TransportError(FedvolError):
    """A message could not be carried."""

    code = "FV-TRAN-000"
    title = "link failed"
    exit_status = 6


class MessageError(TransportError):
    """A message is malformed."""

    code = "FV-TRAN-001"
    title = "message malformed"


class SiteFailedError(TransportError):
    """A site's process failed in a way it did not name."""

    code = "FV-TRAN-002"
    title = "site process failed"


# --- store -----------------------------------------------------------------------------------


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


class ResultFileError(StoreError):
    """A `result.json` is absent, not JSON or not of this version's schema."""

    code = "FV-STORE-010"
    title = "result file unreadable"


class PluginError(FedvolError):
    """A plugin failed or is not allowed by the site."""

    code = "FV-PLUG-000"
    title = "plugin unusable"


def classes_by_code(root: type[FedvolError] = FedvolError) -> dict[str, type[FedvolError]]:
    """Every class of the tree, or of a branch, by its code."""
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= classes_by_code(child)
    return found
