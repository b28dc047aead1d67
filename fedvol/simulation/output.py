"""The output folder of a simulation: what lies where, and whether it may be used."""

import json
from dataclasses import dataclass
from pathlib import Path

from fedvol.errors import OutputFolderError, RunMismatchError
from fedvol.files import write_atomic
from fedvol.plan import canonical_json
from fedvol.types import Digest, Json, RunId, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Paths of one simulation.

    Attributes:
        folder: The folder the user named.
    """

    folder: Path

    @property
    def database(self) -> Path:
        """Runs, rounds, sites' results, metrics and checkpoints."""
        return self.folder / "run.db"

    @property
    def blobs(self) -> Path:
        """Global states and contributions by digest."""
        return self.folder / "blobs"

    @property
    def events(self) -> Path:
        """Everything that happened, one JSON object a line."""
        return self.folder / "events.jsonl"

    @property
    def plan(self) -> Path:
        """The federated run's plan."""
        return self.folder / "plan.json"

    @property
    def checkpoints(self) -> Path:
        """Weights of every judged model."""
        return self.folder / "checkpoints"

    @property
    def result(self) -> Path:
        """Every figure."""
        return self.folder / "result.json"

    @property
    def report(self) -> Path:
        """The page people read."""
        return self.folder / "report.html"

    @property
    def pictures(self) -> Path:
        """Slices of three test cases, for the page."""
        return self.folder / "pictures.npz"

    @property
    def model_card(self) -> Path:
        """What goes with the released model."""
        return self.folder / "model-card.md"

    def site(self, site: SiteId) -> Path:
        """What one hospital would hold: catalogue, case store, audit log, local state."""
        return self.folder / "sites" / site

    def baseline(self, run: RunId) -> Path:
        """The local state of a baseline's one site."""
        return self.folder / "baselines" / run

    @property
    def identity(self) -> Path:
        """What is simulated here, so that another study cannot continue it."""
        return self.folder / "simulation.json"


def open_output(folder: Path, *, resume: bool) -> Output:
    """Accept an output folder that is new, empty, or to be resumed.

    Raises:
        OutputFolderError: It holds something else, or is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(str(folder), "is a file", "Name a folder with --out.")
    held = {path.name for path in folder.iterdir()} - {".lock"} if folder.is_dir() else set[str]()
    if held and "run.db" not in held and "simulation.json" not in held:
        raise OutputFolderError(
            str(folder), "holds files of something else", "Name a new or empty folder with --out."
        )
    if held and not resume:
        raise OutputFolderError(
            str(folder),
            "holds a run already",
            "Add --resume to continue it, or name another folder with --out.",
        )
    return Output(folder=folder)


def require_same_simulation(output: Output, *, plan: Digest, data: dict[SiteId, Digest]) -> None:
    """Write what is simulated on the first start; compare with it on every other.

    Raises:
        RunMismatchError: The folder holds another plan or other data.
    """
    present: Json = {"plan": plan, "data": {str(site): digest for site, digest in data.items()}}
    if not output.identity.exists():
        write_atomic(output.identity, canonical_json(present))
        return
    written = json.loads(output.identity.read_bytes())
    changed = [
        name
        for name, same in (
            ("plan", written.get("plan") == plan),
            *(
                (f"data of {site}", written.get("data", {}).get(site) == data.get(SiteId(site)))
                for site in sorted({*written.get("data", {}), *data})
            ),
        )
        if not same
    ]
    if changed:
        raise RunMismatchError(
            str(output.folder),
            f"another {', '.join(changed)} than when this run began",
            "Restore the study and the data, or begin anew in another folder with --out.",
        )
