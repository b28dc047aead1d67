"""`RunShow`: what operators see of a run or a fingerprint job, and of each site in it."""

from collections.abc import Callable
from typing import cast, final

from fedvol.config import OpenStudy, Study
from fedvol.federation import RoundState, RunState, SiteState
from fedvol.identity import write_moment
from fedvol.server.fingerprint_job import JobRecord, SiteWord, job_state
from fedvol.server.progress import Training
from fedvol.server.proposing import fingerprint_asked
from fedvol.server.server_state import ServerState
from fedvol.store import (
    ALL_SITES,
    CheckpointKind,
    Decision,
    ProposalRecord,
    RoundRecord,
    RunRecord,
    RunRequest,
    SiteRound,
)
from fedvol.types import Digest, Json, RunId, SiteId


@final
class RunShow:
    """Gathers what is known of a run from records, consents, connections and sites' own words.

    Args:
        state: The server's folder, read.
        online: Sites whose node is there now.
        training: What a site told last of its training in a run.
    """

    def __init__(
        self,
        state: ServerState,
        *,
        online: Callable[[], tuple[SiteId, ...]],
        training: Callable[[RunId, SiteId], Training | None],
    ) -> None:
        self._state = state
        self._online = online
        self._training = training

    def run(self, proposal: ProposalRecord, request: RunRequest) -> dict[str, Json]:
        """Everything about one run that an operator asks for."""
        name = proposal.run
        record = self._state.runs.run(name)
        plan = record.plan if record else None
        rounds = self._state.runs.rounds(name)
        study = study_behind(proposal, record)
        why = record.reason if record else ""
        return {
            "run": name,
            "kind": proposal.kind,
            "study": study.name if study else "",
            "plan": proposal.plan_digest,
            "wanted": request.wanted.value,
            "state": self.state(request).value,
            "reason": why or request.reason,
            "by": request.by,
            "at": write_moment(request.at),
            "proposed_by": proposal.created_by,
            "rounds": [stage.rounds for stage in plan.study.stages] if plan else [],
            "closed": sum(one.state.value == "closed" for one in rounds),
            "round": _round(rounds[-1]) if rounds else None,
            "validation": _validation(rounds),
            "sites": cast("list[Json]", self.sites(proposal, rounds)),
            "release": self._given_away(name, CheckpointKind.RELEASE),
            "pretrained": self._given_away(name, CheckpointKind.PRETRAINED),
            "receipts": len(self._state.store.agreements.receipts(name)),
        }

    def state(self, request: RunRequest) -> RunState:
        """Where a run stands."""
        record = self._state.runs.run(request.run)
        return record.state if record else job_state(self._job(request.run), request.wanted)

    def sites(
        self, proposal: ProposalRecord, rounds: tuple[RoundRecord, ...]
    ) -> list[dict[str, Json]]:
        """Each site of a proposal, with its part in the last round."""
        consents = self._state.store.agreements.consents(proposal.id)
        online, active = set(self._online()), set(self._state.registry.active())
        last = {one.site: one for one in rounds[-1].sites} if rounds else {}
        job = self._job(proposal.run)
        found: list[dict[str, Json]] = []
        for site in proposal.sites:
            consent = consents.get(site)
            found.append(
                {
                    "site": site,
                    "takes_part": site in active,
                    "online": site in online,
                    "consent": consent.decision.value if consent else "waiting",
                    "why_not": consent.reason
                    if consent and consent.decision is not Decision.APPROVE
                    else "",
                    **_site_round(last.get(site)),
                    **_site_word(job.sites.get(site) if job else None),
                    "training": self._progress(proposal.run, site, rounds),
                }
            )
        return found

    def _given_away(self, run: RunId, kind: CheckpointKind) -> Digest | None:
        """Digest of what a run gave away, which names its file among the run's blobs."""
        held = self._state.runs.checkpoints(run, kind=kind)
        return held[-1].digest if held else None

    def _progress(
        self, run: RunId, site: SiteId, rounds: tuple[RoundRecord, ...]
    ) -> dict[str, Json] | None:
        """Where a site's training stands, while the present round waits for it."""
        now = rounds[-1] if rounds else None
        if now is None or now.state not in (RoundState.OPEN, RoundState.COLLECTING):
            return None
        states = {one.site: one.state for one in now.sites}
        told = self._training(run, site)
        if told is None or states.get(site, SiteState.ASKED) is not SiteState.ASKED:
            return None
        report = told.report
        if (report.stage, report.round) != (now.stage, now.index):
            return None
        return {
            "step": report.step,
            "steps": report.steps,
            "seconds_left": told.left_s,
            "told_seconds_ago": told.age_s,
            "is_stale": told.is_stale,
        }

    def _job(self, job: RunId) -> JobRecord | None:
        return JobRecord.read(self._state.folder.fingerprint(job))


def study_behind(proposal: ProposalRecord, record: RunRecord | None) -> Study | OpenStudy | None:
    """The study behind a proposal; None of a run whose record the server died before writing."""
    if record is not None:
        return record.plan.study
    return fingerprint_asked(proposal).study if proposal.kind == "fingerprint" else None


def _round(record: RoundRecord) -> dict[str, Json]:
    return {
        "stage": record.stage,
        "round": record.index,
        "attempt": record.attempt,
        "state": record.state.value,
        "reason": record.reason,
        "seconds": record.seconds,
    }


def _validation(rounds: tuple[RoundRecord, ...]) -> dict[str, Json] | None:
    """What the last closed round's model is worth on all sites' validation cases; classes aside."""
    closed = [one for one in rounds if one.state is RoundState.CLOSED]
    if not closed:
        return None
    stats = closed[-1].metrics.get(ALL_SITES, {})
    return {
        "stage": closed[-1].stage,
        "round": closed[-1].index,
        "metrics": {key: stat.value for key, stat in stats.items() if "/" not in key},
    }


def _site_round(site: SiteRound | None) -> dict[str, Json]:
    if site is None:
        return {"state": "", "code": "", "title": "", "steps": None, "train_seconds": None}
    return {
        "state": site.state.value,
        "code": site.code,
        "title": site.title,
        "steps": site.steps,
        "train_seconds": site.train_seconds,
    }


def _site_word(word: SiteWord | None) -> dict[str, Json]:
    if word is None:
        return {}
    return {"state": word.state, "code": word.code, "title": word.title}
