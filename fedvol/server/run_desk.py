"""`RunDesk`: what operators do about runs, as functions of values."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast, final

from pydantic import ValidationError

from fedvol.errors import MessageError, QuorumError, RunRequestError
from fedvol.federation import RunState
from fedvol.plan import Plan, Proposal
from fedvol.server.fingerprint_job import JobRecord, job_state
from fedvol.server.operator_desk import require_name
from fedvol.server.progress import Training
from fedvol.server.proposing import (
    fingerprint_asked,
    fingerprint_proposal,
    keep_initial,
    require_proposable,
    run_proposal,
)
from fedvol.server.run_show import RunShow, study_behind
from fedvol.server.server_state import ServerState
from fedvol.store import ProposalRecord, RunRequest, Wanted
from fedvol.types import Json, RunId, SiteId


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
class RunDesk:
    """Proposes, starts, shows, pauses, resumes and stops runs.

    Args:
        state: The server's folder, read.
        online: Sites whose node is there now.
        training: What a site told last of its training in a run.
        now: Gives the time, UTC.
    """

    def __init__(
        self,
        state: ServerState,
        *,
        online: Callable[[], tuple[SiteId, ...]],
        training: Callable[[RunId, SiteId], Training | None],
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._state = state
        self._shown = RunShow(state, online=online, training=training)
        self._now = now

    def propose(self, run: str, *, plan_json: str, by: str) -> dict[str, Json]:
        """Put a run to its sites; its initial weights are here already.

        Raises:
            MessageError: The plan is no plan.
            RunRequestError: The name is taken, or a site is not active.
            PlanMismatchError: The initial weights are not those of the plan.
        """
        require_name(run, of="run")
        try:
            plan = Plan.model_validate_json(plan_json)
        except ValidationError as error:
            raise MessageError(
                f"run {run}", "its plan is no plan", "Bring command and server to one version."
            ) from error
        name = RunId(run)
        require_proposable(plan, active=self._state.registry.active())
        keep_initial(self._state.folder, name, plan=plan)
        proposal = run_proposal(name, plan=plan, key=self._state.key, operator=by, now=self._now())
        self._state.store.agreements.propose(proposal)
        self._state.runs.create_run(name, plan=plan)
        return self.show(run)

    def propose_fingerprint(self, job: str, *, proposal_json: str, by: str) -> dict[str, Json]:
        """Ask sites for the fingerprints from which a study is planned.

        Raises:
            MessageError: What is to be asked cannot be read, or nothing is open in the study.
            RunRequestError: The name is taken, or a site is not active.
        """
        name = self.require_new(job)
        where, fix = f"fingerprint {job}", "Bring command and server to one version."
        try:
            asked = Proposal.model_validate_json(proposal_json)
        except ValidationError as error:
            raise MessageError(where, "what is asked cannot be read", fix) from error
        if not asked.study.open_keys:
            raise MessageError(where, "nothing is open in its study", fix)
        require_proposable(asked, active=self._state.registry.active())
        self._state.store.agreements.propose(
            fingerprint_proposal(
                name, asked=asked, key=self._state.key, operator=by, now=self._now()
            )
        )
        return self.show(job)

    def planned(self, job: str) -> dict[str, Json]:
        """The study that a fingerprint job was for, and what was planned once it finished.

        Raises:
            RunRequestError: There is no such job.
        """
        proposal, request = self._found(job)
        if proposal.kind != "fingerprint":
            raise RunRequestError(
                f"run {job}", "it is no fingerprint job", "List them: fedvol run list."
            )
        record = JobRecord.read(self._state.folder.fingerprint(job))
        planned = record.planned if record else None
        return {
            "run": job,
            "state": job_state(record, request.wanted).value,
            "reason": request.reason,
            "asked": fingerprint_asked(proposal).study.model_dump_json(),
            "sites": cast("list[Json]", self._shown.sites(proposal, ())),
            "study": planned.study.model_dump_json() if planned else None,
            "planning": planned.planning.model_dump_json() if planned else None,
        }

    def require_new(self, run: str) -> RunId:
        """A name under which nothing was proposed.

        Raises:
            RunRequestError: It is taken.
            UsageError: It is no name.
        """
        require_name(run, of="run")
        if self._state.store.agreements.request(RunId(run)) is not None:
            raise RunRequestError(
                f"run {run}", "there is one of this name", "Choose another with --name."
            )
        return RunId(run)

    def initial_path(self, run: RunId) -> Path:
        """Where the initial weights of a run are brought to."""
        return self._state.folder.initial(run)

    def want(self, run: str, *, verb: str, reason: str, by: str) -> dict[str, Json]:
        """Start, pause, resume or stop a run.

        Raises:
            RunRequestError: It cannot be as things stand.
            QuorumError: Fewer sites consented than the study's minimum.
        """
        agreements, name = self._state.store.agreements, RunId(run)
        proposal, request = self._found(run)
        if verb in ("start", "resume"):
            self._require_startable(proposal, request, verb=verb)
            if verb == "resume":
                agreements.resume(name, by=by, reason=reason)
            else:
                agreements.want(name, Wanted.STARTED, by=by, reason=reason)
        else:
            wanted = Wanted.PAUSED if verb == "pause" else Wanted.STOPPED
            agreements.want(name, wanted, by=by, reason=reason)
        return self.show(run)

    def runs(self) -> list[Json]:
        """Every run, oldest first."""
        kinds = {one.run: one.kind for one in self._state.store.agreements.proposals()}
        return [
            {
                "run": one.run,
                "kind": kinds[one.run],
                "wanted": one.wanted.value,
                "state": self._shown.state(one).value,
                "reason": one.reason,
                "by": one.by,
                "consented": len(self._state.store.agreements.consenting(one.run)),
            }
            for one in self._state.store.agreements.requests()
        ]

    def show(self, run: str) -> dict[str, Json]:
        """Everything about one run that an operator asks for.

        Raises:
            RunRequestError: There is no such run.
        """
        return self._shown.run(*self._found(run))

    def _found(self, run: str) -> tuple[ProposalRecord, RunRequest]:
        agreements = self._state.store.agreements
        proposal, request = agreements.proposal(run), agreements.request(RunId(run))
        if proposal is None or request is None:
            raise RunRequestError(
                f"run {run}"[:200], "there is no such run", "List them: fedvol run list."
            )
        return proposal, request

    def _require_startable(
        self, proposal: ProposalRecord, request: RunRequest, *, verb: str
    ) -> None:
        state = self._shown.state(request)
        if verb == "resume" and request.wanted is Wanted.PROPOSED:
            raise RunRequestError(
                f"run {proposal.run}", "it was not started yet", "Start it: fedvol run start."
            )
        if state is RunState.FAILED and request.wanted is Wanted.STARTED:
            raise RunRequestError(
                f"run {proposal.run}",
                "it failed, and the coordinator is about to end it",
                "Look at it (fedvol run show), and resume it once it ended.",
            )
        lacks_figures = state is RunState.FINISHED and request.wanted is Wanted.ENDED
        if verb == "resume" and lacks_figures and request.reason:
            return  # what is missing is asked for again; nothing is trained
        if state in (RunState.FINISHED, RunState.STOPPED):
            raise RunRequestError(
                f"run {proposal.run}", f"it is {state.value} for good", "Propose a new run."
            )
        study = study_behind(proposal, self._state.runs.run(proposal.run))
        minimum = study.federation.min_sites if study else 1
        consenting = self._state.store.agreements.consenting(proposal.id)
        if len(consenting) < minimum:
            waiting = ", ".join(site for site in proposal.sites if site not in consenting)
            raise QuorumError(
                f"run {proposal.run}",
                f"{len(consenting)} of at least {minimum} sites consented (without: {waiting})",
                "Ask those sites to look at their proposals: fedvol consent list.",
            )
