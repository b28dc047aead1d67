"""What is done with one case, inside a child process."""

import json
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import TypeAdapter

from fedvol.config.data import DataRequirement, Preprocessing
from fedvol.data.case_store import CaseStore
from fedvol.data.case_table import SplitName
from fedvol.data.catalogue import NO_DIGEST, AffineRows, CaseRecord
from fedvol.data.checks import CheckedCase, check_case
from fedvol.data.labels import label_lut
from fedvol.data.layout import CaseEntry
from fedvol.data.preprocess import prepare
from fedvol.errors import (
    DataError,
    FedvolError,
    StoreError,
    VolumeTooLargeError,
    VolumeUnreadableError,
)
from fedvol.files import digest_file
from fedvol.plan import digest_json, num_classes
from fedvol.types import Digest, Json

PREPARATION_VERSION: Final = 2
"""Raised whenever the same files and settings would give another prepared case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTask:
    """One case to do.

    Attributes:
        entry: Its files.
        split: What it is for.
        store: Folder of its site's case store.
    """

    entry: CaseEntry
    split: SplitName
    store: Path

    @property
    def where(self) -> str:
        """The case's name in messages."""
        return f"case {self.entry.site}/{self.entry.case}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a child says of a case.

    Attributes:
        record: The case's record, with its verdict; None where the store or fedvol failed.
        code: Code of the store's error, for which the whole ingestion ends.
        what: What is wrong with the store.
        fix: What to do about it.
        mistake: Traceback of an assertion of ours that did not hold: no fault of the case.
    """

    record: CaseRecord | None
    mistake: str = ""
    code: str = ""
    what: str = ""
    fix: str = ""


_OUTCOME = TypeAdapter(Outcome)


def case_outcome(
    task: CaseTask, *, requirement: DataRequirement, preprocessing: Preprocessing | None
) -> bytes:
    """`process_case` as a child calls it: the outcome as JSON, our own mistakes included."""
    try:
        record = process_case(task, requirement=requirement, preprocessing=preprocessing)
        outcome = Outcome(record=record)
    except StoreError as error:
        outcome = Outcome(record=None, code=error.code, what=error.what, fix=error.fix)
    except AssertionError as error:
        outcome = Outcome(record=None, mistake="".join(traceback.format_exception(error)))
    return _OUTCOME.dump_json(outcome)


def process_case(
    task: CaseTask, *, requirement: DataRequirement, preprocessing: Preprocessing | None
) -> CaseRecord:
    """Read and check one case; prepare and keep it, unless its preprocessing is not known yet.

    Returns:
        Its record; a fault of the case is its verdict.

    Raises:
        StoreError: The case store cannot be written.
        AssertionError: fedvol itself is wrong.
    """
    try:
        return _process(task, requirement=requirement, preprocessing=preprocessing)
    except DataError as error:
        return record_of(task, error=error)
    except FedvolError:
        raise
    except MemoryError:
        error = VolumeTooLargeError(
            task.where, "does not fit into the memory a case may use", "Crop or resample the case."
        )
        return record_of(task, error=error)
    except Exception as error:  # foreign code met a volume that nobody thought of
        if isinstance(error, AssertionError) and _is_ours(error):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        refusal = VolumeUnreadableError(
            task.where,
            f"cannot be prepared ({reason})",
            "Convert the volume again, or take it out.",
        )
        return record_of(task, error=refusal)


def _is_ours(error: AssertionError) -> bool:
    """Whether the assertion stands in fedvol and not in a library that reads volumes."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")).startswith("fedvol.")


def record_of(
    task: CaseTask,
    *,
    error: FedvolError | None = None,
    checked: CheckedCase | None = None,
    checksums: tuple[Digest, Digest] = (NO_DIGEST, NO_DIGEST),
) -> CaseRecord:
    """The record of a case that was checked, or of one that failed."""
    entry = task.entry
    image = None if checked is None else checked.image
    return CaseRecord(
        site=entry.site,
        case=entry.case,
        subject=entry.subject,
        split=task.split,
        images=tuple(str(path.relative_to(entry.root)) for path in entry.images),
        label=None if entry.label is None else str(entry.label.relative_to(entry.root)),
        shape=None if image is None else _sides(image.array.shape[1:]),
        spacing_mm=None if image is None else image.spacing_mm,
        affine=None if image is None else _rows(image.affine),
        checksum=checksums[0],
        label_checksum=checksums[1],
        content=NO_DIGEST if checked is None else checked.content,
        voxels=None if checked is None else checked.voxels,
        intensities=None if checked is None else checked.intensities,
        verdict="" if error is None else error.code,
        reason="" if error is None else str(error),
    )


def _process(
    task: CaseTask, *, requirement: DataRequirement, preprocessing: Preprocessing | None
) -> CaseRecord:
    entry = task.entry
    checked = check_case(entry, requirement=requirement)
    checksums = _checksums(entry)
    if preprocessing is None:
        return record_of(task, checked=checked, checksums=checksums)
    _require_bounded(checked, max_voxels=requirement.max_voxels, config=preprocessing, task=task)
    store = CaseStore(task.store)
    key = _key(checksums, requirement=requirement, preprocessing=preprocessing)
    if not store.has(entry.case, key):
        prepared = prepare(
            checked.image,
            checked.label,
            config=preprocessing,
            lut=label_lut(requirement),
            num_classes=num_classes(requirement),
            where=task.where,
        )
        store.write(entry.case, prepared, key=key)
    return record_of(task, checked=checked, checksums=checksums)


def _require_bounded(
    checked: CheckedCase, *, max_voxels: int, config: Preprocessing, task: CaseTask
) -> None:
    extent_mm = np.multiply(checked.image.array.shape[1:], checked.image.spacing_mm)
    num_voxels = float(np.prod(np.ceil(extent_mm / np.asarray(config.spacing_mm))))
    if num_voxels > max_voxels:
        raise VolumeTooLargeError(
            task.where,
            f"would have {num_voxels:.3g} voxels at the study's spacing, more than {max_voxels}",
            "Crop the case, or raise data.max_voxels or the spacing in the study.",
        )


def _checksums(entry: CaseEntry) -> tuple[Digest, Digest]:
    digests = [digest_file(path) for path in entry.images]
    image = digests[0] if len(digests) == 1 else digest_json([*digests])
    return image, NO_DIGEST if entry.label is None else digest_file(entry.label)


def _key(
    checksums: tuple[Digest, Digest], *, requirement: DataRequirement, preprocessing: Preprocessing
) -> Digest:
    """Digest of everything that a prepared case depends on."""
    values: list[Json] = [*sorted(requirement.labels.values())]
    return digest_json(
        {
            "version": PREPARATION_VERSION,
            "image": checksums[0],
            "label": checksums[1],
            "channels": len(requirement.channels),
            "values": values,
            "preprocessing": json.loads(preprocessing.model_dump_json()),
        }
    )


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    i, j, k = shape
    return i, j, k


def _rows(affine: np.ndarray) -> AffineRows:
    a, b, c, d = ((float(w), float(x), float(y), float(z)) for w, x, y, z in affine)
    return a, b, c, d
