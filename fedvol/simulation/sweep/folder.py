"""The folder of a sweep: what lies where, and whether it may be used."""

from dataclasses import dataclass
from pathlib import Path

from fedvol.config import load_open_study
from fedvol.errors import ConfigError, RunMismatchError
from fedvol.simulation.output import Output, held_in, require_resume
from fedvol.simulation.sweep.design import SweepRun


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFolder:
    """Paths of a sweep.

    Attributes:
        folder: The folder the user named.
    """

    folder: Path

    @property
    def study(self) -> Path:
        """Copy of the study file."""
        return self.folder / "study.toml"

    @property
    def sweep(self) -> Path:
        """Copy of the sweep file."""
        return self.folder / "sweep.toml"

    def study_of(self, run: SweepRun) -> Path:
        """The study file of a run."""
        return self.folder / "studies" / f"{run.name}.toml"

    def run(self, run: SweepRun) -> Output:
        """What a run leaves: the folder of a simulation."""
        return Output(folder=self.folder / "runs" / run.name)

    def is_begun(self, run: SweepRun) -> bool:
        """Whether a run was begun with this very study."""
        held = self.run(run).study
        try:
            return held.exists() and load_open_study(held) == run.study
        except ConfigError:
            return False

    def require_same(self, run: SweepRun) -> None:
        """Refuse a run that was begun with another study.

        Raises:
            RunMismatchError: It was, or its study cannot be read any more.
        """
        held = self.run(run).study
        if held.exists() and not self.is_begun(run):
            raise RunMismatchError(
                str(held.parent),
                f"{run.name} was begun with another study than the sweep makes of it now",
                "Restore study and sweep as they were, or begin anew in another folder with --out.",
            )


def open_sweep_folder(folder: Path, *, resume: bool) -> SweepFolder:
    """Accept a folder that is new, empty, or holds a sweep to be resumed.

    Raises:
        OutputFolderError: It holds something else, or is no folder.
    """
    if held := held_in(folder) - {".lock"}:
        require_resume(folder, is_ours="studies" in held, what="a sweep", resume=resume)
    return SweepFolder(folder=folder)
