"""A fingerprint job over the network: who was counted, and the values that were planned.

What becomes of a job is one file in the server's folder: the coordinator writes it, the operators'
interface reads it. A job has no weights and no rounds, so it has no record of a run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, cast, final

from pydantic import Field, ValidationError

from fedvol.config import Study
from fedvol.config.base import Section
from fedvol.errors import StoreError
from fedvol.federation import Link, RunState
from fedvol.files import write_atomic
from fedvol.plan import (
    Fingerprint,
    PlanningRecord,
    Proposal,
    canonical_json,
    merge_fingerprints,
    plan_over_sites,
)
from fedvol.server.fingerprints import ask_fingerprints
from fedvol.server.run_gate import RunGate
from fedvol.store import RunRequest, Wanted
from fedvol.telemetry import Observer
from fedvol.types import Json, RunId, SiteId


class SiteWord(Section):
    """What became of one site."""

    state: Literal["counted", "refused", "silent", "absent"]
    """`counted`: its fingerprint is in the plan."""
    code: str = ""
    """Error code where it is not."""
    title: str = ""
    """Why not, in words."""


class PlannedStudy(Section):
    """What follows from the fingerprints."""

    merged: Fingerprint
    """Of all sites that were counted."""
    parts: dict[str, Fingerprint]
    """Of each."""
    study: Study
    """The study with every value."""
    planning: PlanningRecord
    """Each planned value with its reason."""


class JobRecord(Section):
    """A job as it stands."""

    version: Literal[1] = 1
    """Version of this schema."""
    state: RunState
    """Running, or how it ended."""
    reason: str = ""
    """Why it ended so."""
    queued: str = ""
    """When the job was started that ended so: one that is started anew later is taken anew."""
    sites: dict[str, SiteWord] = Field(default_factory=dict[str, SiteWord])
    """What became of each site so far."""
    planned: PlannedStudy | None = None
    """The outcome of a job that finished."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record in a file; None if there is none yet.

        Raises:
            StoreError: The file cannot be read.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise StoreError(
                str(path), "it is damaged or cannot be read", "Remove it, then resume the job."
            ) from error

    def write(self, path: Path) -> None:
        """Put it in a file.

        Raises:
            StoreError: The file cannot be written.
        """
        said = json.loads(self.model_dump_json())
        write_atomic(path, canonical_json(cast("Json", said)), mode=0o600)


def job_state(record: JobRecord | None, wanted: Wanted) -> RunState:
    """Where a job stands, by its file and by what operators want of it."""
    match wanted:
        case Wanted.STARTED:
            return RunState.RUNNING
        case Wanted.PAUSED:
            return RunState.PAUSED
        case _:
            return RunState.PROPOSED if record is None else record.state


def end_job(path: Path, state: RunState, *, request: RunRequest, reason: str) -> None:
    """Note how a job ended; one that finished stays finished.

    Args:
        path: The job's file.
        state: How.
        request: What was wanted of it.
        reason: Why.

    Raises:
        StoreError: The file cannot be read or written.
    """
    held = JobRecord.read(path)
    if held is None or held.state is not RunState.FINISHED:
        sites = {} if held is None else held.sites
        queued = request.queued.isoformat()
        JobRecord(state=state, reason=reason, queued=queued, sites=sites).write(path)


def why_job_failed(path: Path, request: RunRequest) -> str | None:
    """Why a job failed since it was started last; None: it did not.

    Raises:
        StoreError: The file cannot be read.
    """
    held = JobRecord.read(path)
    if held is None or held.state is not RunState.FAILED:
        return None
    return held.reason if held.queued == request.queued.isoformat() else None


@final
class _Noting:
    """Passes events on, and keeps what became of each site in the job's file.

    Args:
        path: The file.
        observer: Hears of them too.
    """

    def __init__(self, path: Path, observer: Observer) -> None:
        self._path = path
        self._observer = observer
        self.sites: dict[str, SiteWord] = {}

    def event(self, name: str, /, **fields: Json) -> None:
        """Take note of an event."""
        self._observer.event(name, **fields)
        match name:
            case "site.fingerprint":
                word = SiteWord(state="counted")
            case "site.refused":
                code, title = str(fields["code"]), str(fields["title"])
                word = SiteWord(state="refused", code=code, title=title)
            case "site.silent":
                word = SiteWord(state="silent", title="no answer")
            case "site.absent":
                word = SiteWord(state="absent", title=str(fields["reason"]))
            case _:
                return
        self.sites[str(fields["site"])] = word
        JobRecord(state=RunState.RUNNING, sites=self.sites).write(self._path)


def conduct_job(
    link: Link,
    *,
    job: RunId,
    asked: Proposal,
    gate: RunGate,
    path: Path,
    observer: Observer,
) -> None:
    """Ask the consenting sites, plan from their answers, and keep the outcome in the job's file.

    Args:
        link: To the sites.
        job: The job.
        asked: The study, and who was asked.
        gate: Who agrees, and what the operator wants.
        path: The job's file.
        observer: Hears of progress.

    Raises:
        QuorumError: Too few sites told of training cases.
        PlanningError: The data do not allow a plan.
        StudyError: A planned value contradicts one that the study fixes.
        RunPausedError: The operator paused the job.
        RunStoppedError: The operator stopped it.
        TransportError: The link is down.
    """
    noting = _Noting(path, observer)
    JobRecord(state=RunState.RUNNING).write(path)
    parts = ask_fingerprints(
        link,
        job=job,
        proposal=asked,
        observer=noting,
        left_out=_left_out(asked, gate.consenting(), present=link.sites()),
        attempts=gate.attempts(),
    )
    study, planning = plan_over_sites(asked.study, parts)
    JobRecord(
        state=RunState.FINISHED,
        sites=noting.sites,
        planned=PlannedStudy(
            merged=merge_fingerprints([*parts.values()]),
            parts={str(site): part for site, part in parts.items()},
            study=study,
            planning=planning,
        ),
    ).write(path)
    observer.event("plan.made", study=study.name, keys=list(asked.study.open_keys))


def _left_out(
    asked: Proposal, consenting: frozenset[SiteId], *, present: Sequence[SiteId]
) -> Mapping[SiteId, str]:
    reasons: dict[SiteId, str] = {}
    for site in map(SiteId, asked.sites):
        if site not in consenting:
            reasons[site] = "it did not agree"
        elif site not in present:
            reasons[site] = "not connected"
    return reasons
