"""From a study as written to its plan's values: check the volumes, count them, plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fedvol
from fedvol.audit import AuditLog
from fedvol.client.fingerprinting import FingerprintAgent
from fedvol.client.prepare import check_sites
from fedvol.config import SIMULATION_POLICY, OpenStudy, Study, close_study
from fedvol.data import CaseRecord, read_entries
from fedvol.errors import RunMismatchError
from fedvol.files import write_atomic
from fedvol.plan import (
    Fingerprint,
    Plan,
    PlanningRecord,
    Proposal,
    Setting,
    canonical_json,
    merge_fingerprints,
    plan_over_sites,
    settings_of,
)
from fedvol.simulation.federate import gather_fingerprints, make_plan
from fedvol.simulation.output import Output, held_plan
from fedvol.simulation.told_once import ToldOnce
from fedvol.store import PretrainedFile
from fedvol.telemetry import Observer
from fedvol.types import RunId, SiteId

JOB: Final = RunId("fingerprint")
NUM_WORKERS: Final = 2

Records = Mapping[SiteId, tuple[CaseRecord, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A study with nothing left open.

    Attributes:
        study: The study.
        record: How its open values came about; None where it left none.
        checked: The cases that were counted; None where no case was.
    """

    study: Study
    record: PlanningRecord | None
    checked: Records | None = None

    def require_unchanged(self, records: Records) -> None:
        """Refuse volumes that changed since they were counted.

        Raises:
            RunMismatchError: A case came, went or changed.
        """
        for site, before in sorted((self.checked or {}).items()):
            after = {record.case: record for record in records.get(site, ())}
            changed = [r.case for r in before if r.case not in after or not _same(r, after[r.case])]
            if changed or len(before) != len(after):
                raise RunMismatchError(
                    f"site {site}",
                    "its cases changed while the plan was made"
                    + (f", {changed[0]} among them" if changed else ""),
                    "Leave the volumes alone and start again.",
                )


def case_teller(observer: Observer, *, event: str) -> Callable[[CaseRecord, int, int], None]:
    """Tells of each case that was checked or prepared, with the code of what is wrong with it."""

    def tell(record: CaseRecord, done: int, total: int) -> None:
        observer.event(
            event,
            site=record.site,
            case=record.case,
            done=done,
            total=total,
            code=record.verdict,
        )

    return tell


def close_for_simulation(
    study: OpenStudy, *, data: Path, output: Output, observer: Observer
) -> Closed:
    """Plan what a study leaves open; once a run has begun, its plan is read again.

    Raises:
        DataError: A table, a split or too many cases are faulty, or a subject is in two places.
        PlanningError: The data do not allow a plan.
        StoreError: The folder cannot be written, or its plan is damaged.
    """
    if not study.open_keys:
        return Closed(study=close_study(study, {}, where=study.name), record=None)
    if output.identity.exists() and output.plan.exists():
        held = held_plan(output)
        return Closed(study=held.study, record=held.planning)
    return plan_sites(study, data=data, output=output, observer=observer)


def plan_sites(study: OpenStudy, *, data: Path, output: Output, observer: Observer) -> Closed:
    """Check every case, ask every site for its fingerprint, and plan.

    Raises:
        DataError: As above.
        PlanningError: The data do not allow a plan.
        StoreError: The folder cannot be written.
    """
    checked = check_sites(
        data,
        study=study,
        folder_of=output.site,
        workers=NUM_WORKERS,
        on_case=case_teller(observer, event="check.case"),
    )
    proposal = Proposal(software=fedvol.__version__, study=study, sites=tuple(sorted(checked)))
    agents = {
        site: FingerprintAgent(
            site=site,
            proposal=proposal,
            records=records,
            policy=SIMULATION_POLICY,
            audit=AuditLog(output.site(site) / "audit.jsonl"),
            observer=observer,
        )
        for site, records in checked.items()
    }
    parts = gather_fingerprints(proposal, agents, job=JOB, observer=observer)
    merged = merge_fingerprints([*parts.values()])
    _write(output.fingerprint, merged=merged, parts=parts)
    closed, record = plan_over_sites(study, parts)
    observer.event("plan.made", study=study.name, keys=list(study.open_keys))
    return Closed(study=closed, record=record, checked=checked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A study's plan for people who look at it before a run.

    Attributes:
        closed: The study with every value.
        sites: Hospitals of the data folder.
        settings: Every value that may be planned, where it is from, and why.
        weights: The file of pretrained weights that the study names; None where it names none.
    """

    closed: Closed
    sites: tuple[SiteId, ...]
    settings: tuple[Setting, ...]
    weights: PretrainedFile | None

    def plan(self) -> Plan:
        """The plan that a run of this study over these volumes has."""
        plan, _ = make_plan(
            self.closed.study,
            sites=self.sites,
            planning=self.closed.record,
            weights=self.weights,
        )
        return plan


def explain_plan(
    study: OpenStudy,
    *,
    data: Path,
    folder: Path,
    observer: Observer,
    weights: PretrainedFile | None = None,
) -> Explained:
    """Plan a study over the hospitals in a folder, without preparing or training anything.

    Args:
        study: The study as written.
        data: Folder of volumes with their case table, or of one such folder per site.
        folder: An empty folder for what sites write.
        observer: Hears of progress.
        weights: The file of pretrained weights that the study names.

    Raises:
        DataError: A table, a split or too many cases are faulty, or a subject is in two places.
        PlanningError: The data do not allow a plan.
    """
    output = Output(folder=folder)
    closed = close_for_simulation(study, data=data, output=output, observer=ToldOnce(observer))
    sites = closed.checked or read_entries(data, num_channels=len(study.data.channels))
    return Explained(
        closed=closed,
        sites=tuple(sorted(sites)),
        settings=settings_of(study, closed.study, closed.record),
        weights=weights,
    )


def _write(path: Path, *, merged: Fingerprint, parts: Mapping[SiteId, Fingerprint]) -> None:
    document = {
        "digest": merged.digest,
        "merged": merged.model_dump(mode="json"),
        "sites": {site: part.model_dump(mode="json") for site, part in parts.items()},
    }
    write_atomic(path, canonical_json(document))


def _same(before: CaseRecord, after: CaseRecord) -> bool:
    """Whether both are of the same files; a case refused meanwhile has no checksums."""
    if (before.subject, before.split) != (after.subject, after.split):
        return False
    if not before.checksum or not after.checksum:
        return True
    return (before.checksum, before.label_checksum) == (after.checksum, after.label_checksum)
