"""The site that holds the volumes must act: status 3."""

from collections.abc import Sequence

from fedvol.errors.base import FedvolError, Problem


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


class NotPreparedError(DataError):
    """The site is still preparing its cases for the run, or could not."""

    code = "FV-DATA-030"
    title = "cases not prepared yet"


class NoDataSourceError(DataError):
    """No data source of the site fits what a study asks for, or several do."""

    code = "FV-DATA-031"
    title = "no fitting data source"
