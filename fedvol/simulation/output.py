"""The output folder of a simulation: what lies where, and whether it may be used."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from fedvol.config import OpenStudy, load_open_study
from fedvol.config.weights import without_file
from fedvol.errors import (
    BlobDamagedError,
    ConfigError,
    OutputFolderError,
    RunMismatchError,
    StoreError,
)
from fedvol.files import atomic_path, digest_file, write_atomic
from fedvol.plan import Plan, canonical_json
from fedvol.store import PretrainedFile
from fedvol.types import Digest, Json, RunId, SiteId

_DECISIVE = ("fedvol", "monai", "numpy", "scipy", "torch")
"""Libraries whose versions decide the last bits of weights and figures."""
_IDENTITY = TypeAdapter(dict[str, dict[str, str]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Paths of one simulation.

    Attributes:
        folder: The folder the user named.
    """

    folder: Path

    @property
    def study(self) -> Path:
        """Copy of the study file."""
        return self.folder / "study.toml"

    @property
    def weights(self) -> Path:
        """The file of pretrained weights that the study names, where it names one."""
        return self.folder / "weights.safetensors"

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
    def fingerprint(self) -> Path:
        """Each site's fingerprint and all of them merged, where values were planned."""
        return self.folder / "fingerprint.json"

    @property
    def checkpoints(self) -> Path:
        """Weights of every judged model, and those that were pretrained."""
        return self.folder / "checkpoints"

    @property
    def pretrained(self) -> Path:
        """What the federated run's pretrain stage gave away, with its record for others."""
        return self.checkpoints / "pretrained.safetensors"

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
    def pretext_pictures(self) -> Path:
        """Slices of what a pretext task was about, for the page."""
        return self.folder / "pretext-pictures.npz"

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
    held = held_in(folder)
    # The lock is made first and stays; a run killed before `simulation.json` left only these.
    first = {".lock", "study.toml", "weights.safetensors", "events.jsonl", "sites"}
    first |= {"fingerprint.json"}
    began = ".lock" in held and held <= first
    held -= {".lock"}
    is_run = began or "run.db" in held or "simulation.json" in held
    if held:
        require_resume(folder, is_ours=is_run, what="a run", resume=resume)
    return Output(folder=folder)


def held_in(folder: Path) -> set[str]:
    """Names of what lies in an output folder, unfinished files left out.

    Raises:
        OutputFolderError: It is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(str(folder), "is a file", "Name a folder with --out.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    return {name for name in names if not name.endswith(".part")}


def require_resume(folder: Path, *, is_ours: bool, what: str, resume: bool) -> None:
    """Refuse a folder that holds something, unless it is to be gone on with.

    Args:
        folder: The folder.
        is_ours: Whether what it holds is what is to be put there.
        what: What that is, in words.
        resume: Whether the user asked to go on.

    Raises:
        OutputFolderError: It holds something else, or nobody asked to go on.
    """
    if not is_ours:
        raise OutputFolderError(
            str(folder), "holds files of something else", "Name a new or empty folder with --out."
        )
    if not resume:
        raise OutputFolderError(
            str(folder),
            f"holds {what} already",
            "Add --resume to continue it, or name another folder with --out.",
        )


def keep_study(output: Output, *, path: Path, study: OpenStudy) -> None:
    """Copy the study file into the folder; once a run has begun there, only the same study.

    A file of weights may have moved; whether its content is the same, the plan says.

    Raises:
        StoreError: The copy in the folder is gone or damaged.
        RunMismatchError: The folder holds a run of another study; nothing in it was touched.
    """
    if not output.identity.exists():
        with atomic_path(output.study) as copy:
            shutil.copyfile(path, copy)
    elif without_file(_held_study(output)) != without_file(study):
        raise _mismatch(output, ["study"])


def keep_weights(output: Output, weights: PretrainedFile | None) -> None:
    """Keep the file of pretrained weights that a run begins with, so that it can go on without it.

    Once the run has begun, what is kept stays: whether another file is the same, the plan says.

    Raises:
        BlobDamagedError: The file changed meanwhile.
        StoreError: The folder cannot be written.
    """
    if weights is None or weights.path == output.weights or output.identity.exists():
        return
    with atomic_path(output.weights) as copy:
        shutil.copyfile(weights.path, copy)
        if digest_file(copy) != weights.digest:
            raise BlobDamagedError(
                str(weights.path), "changed while it was copied", "Leave it alone and start again."
            )


def held_plan(output: Output) -> Plan:
    """The plan of the run that the folder holds.

    Raises:
        StoreError: The file is gone or damaged.
    """
    try:
        return Plan.model_validate_json(output.plan.read_bytes())
    except (ValidationError, OSError) as error:
        raise _unreadable(output.plan, "the plan of this run") from error


def require_same_simulation(
    output: Output, *, plan: Digest, data: dict[SiteId, Digest], device: str
) -> None:
    """Write what is simulated on the first start; compare with it on every other.

    Raises:
        RunMismatchError: The folder holds other data, a plan of another version, or was begun on
            another device or with other libraries that decide the last bits.
        StoreError: What was written on the first start is damaged.
    """
    present: dict[str, dict[str, str]] = {
        "data of": {str(site): digest for site, digest in data.items()},
        "version of": {name: version(name) for name in _DECISIVE},
        "run": {"device": device, "plan": plan},
    }
    if not output.identity.exists():
        write_atomic(output.identity, canonical_json(cast("Json", present)))
        return
    try:
        written = _IDENTITY.validate_json(output.identity.read_bytes())
    except (ValidationError, OSError) as error:
        raise _unreadable(output.identity, "what this run was begun with") from error
    changed = [
        name if part == "run" else f"{part} {name}"
        for part, values in present.items()
        for name in sorted({*values, *written.get(part, {})})
        if values.get(name) != written.get(part, {}).get(name)
    ]
    if changed:
        raise _mismatch(output, changed)


def _held_study(output: Output) -> OpenStudy:
    try:
        return load_open_study(output.study)
    except ConfigError as error:
        raise _unreadable(output.study, "this run's own copy of its study") from error


def _unreadable(path: Path, of: str) -> StoreError:
    return StoreError(
        str(path),
        f"{of} cannot be read",
        "Restore the file, or begin anew in another folder with --out.",
    )


def _mismatch(output: Output, changed: Sequence[str]) -> RunMismatchError:
    return RunMismatchError(
        str(output.folder),
        f"other {', '.join(changed)} than when this run began",
        "Restore what changed, or begin anew in another folder with --out.",
    )
