"""From listed cases to prepared ones; a broken case is named and skipped, never fatal alone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from fedvol.config.data import DataRequirement, Preprocessing
from fedvol.data.case_work import CaseTask, Outcome, case_outcome, record_of
from fedvol.data.catalogue import CaseRecord
from fedvol.data.child import DEFAULT_LIMITS, Fault, Limits, map_limited
from fedvol.data.few_labels import with_few_labels
from fedvol.data.layout import CaseEntry
from fedvol.data.splits import Splits
from fedvol.data.verdicts import require_enough_cases, without_duplicates
from fedvol.errors import StoreError, VolumeUnreadableError, classes_by_code
from fedvol.types import SiteId

_OUTCOME = TypeAdapter(Outcome)

Cohort = Literal["federation", "site", "look"]


def ingest(
    entries: Mapping[SiteId, Sequence[CaseEntry]],
    *,
    requirement: DataRequirement,
    preprocessing: Preprocessing | None,
    splits: Splits,
    stores: Mapping[SiteId, Path],
    workers: int = 1,
    on_case: Callable[[CaseRecord], None] = lambda _: None,
    limits: Limits = DEFAULT_LIMITS,
    cohort: Cohort = "federation",
    pretrains: bool = False,
) -> tuple[CaseRecord, ...]:
    """Read, check and prepare every case, each in a child process.

    A case already in its store under the same content and settings is checked again but not
    prepared again, so that an interrupted ingestion goes on where it was. Where cases are
    prepared, no other process may be writing to the stores; where they are only checked, any may.

    Args:
        entries: Cases of each site.
        requirement: What the study asks of a case.
        preprocessing: How a case is prepared; None: cases are only checked, and no store is
            written.
        splits: What each case is for.
        stores: Folder of each site's case store.
        workers: Child processes at one time; changes nothing but the time.
        on_case: Told of each case as it is done, in no certain order.
        limits: Memory and time of one case.
        cohort: What the cases must be enough for: a whole `federation`; one `site` of it, which
            may lack validation or test cases; or nothing at all, where they are only looked at.
        pretrains: Whether the study pretrains, so that unlabelled training cases are enough for a
            site.

    Returns:
        One record for each case, in the order of `entries`.

    Raises:
        TooManySkippedError: A site skips several cases, and their share is above the study's limit.
        NoCasesError: A site with labels has no usable training case, or no site has a labelled
            training, validation or test case.
        DuplicateVolumeError: One image is at two sites or in two splits.
        StoreError: A store cannot be written; says so at once.
        SiteFailedError: The child processes do not start.
        AssertionError: fedvol itself is wrong; carries the child's traceback.
    """
    few = requirement.few_labels
    tasks = [
        CaseTask(entry=entry, split=splits[site][entry.case], store=stores[site])
        for site, cases in with_few_labels(entries, splits=splits, config=few).items()
        for entry in cases
    ]
    writes = preprocessing is not None
    for folder in stores.values() if writes else ():
        _remove_unfinished(folder)
    work = partial(case_outcome, requirement=requirement, preprocessing=preprocessing)
    records: dict[int, CaseRecord] = {}
    with closing(map_limited(work, tasks, workers=workers, limits=limits)) as answers:
        for position, answer in answers:
            task = tasks[position]
            if isinstance(answer, Fault) and writes:
                _remove_unfinished(task.store, process=answer.process)
            record = _record(task, answer)
            records[position] = record
            on_case(record)
    judged = without_duplicates([records[position] for position in range(len(tasks))])
    if cohort != "look":
        require_enough_cases(
            judged,
            requirement=requirement,
            pretrains=pretrains,
            is_whole=cohort == "federation",
        )
    return judged


def _record(task: CaseTask, answer: bytes | Fault) -> CaseRecord:
    if isinstance(answer, Fault):
        error = VolumeUnreadableError(
            task.where, answer.what, "Convert the volume with another program, or take it out."
        )
        return record_of(task, error=error)
    outcome = _OUTCOME.validate_json(answer, strict=True)
    if outcome.mistake:
        raise AssertionError(f"{task.where}: {outcome.mistake}")
    if outcome.record is None:
        kind = classes_by_code(StoreError)[outcome.code]
        raise kind(task.where, outcome.what, outcome.fix)
    return outcome.record


def _remove_unfinished(folder: Path, *, process: int | None = None) -> None:
    """Remove what an ended process was writing; with no process named, what any was."""
    for path in folder.glob(".*.part" if process is None else f".*.{process}.part"):
        path.unlink(missing_ok=True)
