"""Whoever wrote the study, the site file or the command must act: status 2."""

from collections.abc import Sequence

from fedvol.errors.base import FedvolError, Problem


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


class SiteFileError(StudyError):
    """A site's file breaks its schema or contradicts itself; carries every problem found."""

    code = "FV-CONF-009"
    title = "site file invalid"


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


class TransferError(StudyError):
    """Pretrained weights do not fit the network or the study; carries every reason."""

    code = "FV-CONF-011"
    title = "pretrained weights do not fit"


class NameMapError(StudyError):
    """A map of tensor names breaks its schema or gives a name twice; carries every problem."""

    code = "FV-CONF-012"
    title = "name map invalid"


class SweepError(StudyError):
    """A sweep breaks its schema or compares what cannot be compared; carries every problem."""

    code = "FV-CONF-013"
    title = "sweep invalid"


class PlanningError(ConfigError):
    """The sites' data do not allow a plan, or not within what the study fixes."""

    code = "FV-CONF-020"
    title = "no plan possible"


class ServerFileError(StudyError):
    """A server file breaks its schema or contradicts itself; carries every problem found."""

    code = "FV-CONF-030"
    title = "server file invalid"
