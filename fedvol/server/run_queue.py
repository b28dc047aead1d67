"""`RunQueue`: takes started runs one after the other; each ends in a final state with a reason."""

import logging
import time
from collections.abc import Callable
from typing import final

from fedvol.audit import AuditSink
from fedvol.errors import FedvolError, RunPausedError, RunStoppedError, TransportError
from fedvol.federation import Link, RunState
from fedvol.plan import Plan, Proposal
from fedvol.server.clock import Clock, SystemClock
from fedvol.server.conducting import Conducted, Gate, ServerEnd, conduct, over_engine
from fedvol.server.fingerprint_job import conduct_job, end_job, why_job_failed
from fedvol.server.proposing import fingerprint_asked
from fedvol.server.receipts import issue_receipts
from fedvol.server.run_gate import RunGate
from fedvol.server.server_state import ServerState
from fedvol.store import RunRequest, StateFile, Wanted
from fedvol.telemetry import Observer
from fedvol.types import RunId

POLL_S = 1.0
_COORDINATOR = "coordinator"
_OPEN = (RunState.PROPOSED, RunState.RUNNING, RunState.PAUSED)

Conduct = Callable[[RunId, Plan, Gate], Conducted]
Work = Callable[[Link], None]
Reach = Callable[[RunId, RunGate, Work], None]
"""Does some work over the link to the sites that a gate admits."""

_log = logging.getLogger(__name__)


@final
class RunQueue:
    """The coordinator's work; it may be killed at any moment, all is in the store.

    Args:
        state: The server's folder, read.
        audit: Where messages and receipts are written down.
        observer: Hears of progress.
        conducts: Brings one run to its end; None: over the network.
        reaches: Does the work of a fingerprint job; None: over the network.
        wait: Waits so many seconds.
        clock: Time; None: the machine's.
    """

    def __init__(
        self,
        state: ServerState,
        *,
        audit: AuditSink,
        observer: Observer,
        conducts: Conduct | None = None,
        reaches: Reach | None = None,
        wait: Callable[[float], None] = time.sleep,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._state = state
        self._audit = audit
        self._observer = observer
        self._conducts = conducts or self._over_network
        self._reaches = reaches or self._reach
        self._wait = wait

    def serve(self) -> None:
        """Take runs for ever."""
        while True:
            if not self.step():
                self._wait(POLL_S)

    def step(self) -> bool:
        """Take the next run, if there is one; returns whether there was.

        Raises:
            TransportError: The engine was away for too long; the run stays as it is.
            StoreError: The store cannot be used.
        """
        self._settle_stopped()
        requests = self._state.store.agreements.requests()
        started = [one for one in requests if one.wanted is Wanted.STARTED]
        if not started:
            return False
        self._take(started[0])
        return True

    def _take(self, request: RunRequest) -> None:
        run = request.run
        if (reason := self._why_failed(request)) is not None:
            self._end(request, RunState.FAILED, reason=reason)
            return
        try:
            self._play(run)
        except RunPausedError:
            return  # the run's record says so, or it had not begun; it waits to be resumed
        except TransportError:
            raise
        except RunStoppedError as error:
            self._end(request, RunState.STOPPED, reason=error.what)
        except FedvolError as error:
            _log.warning("run.failed", extra={"run": run, "code": error.code})
            self._end(request, RunState.FAILED, reason=str(error))
        except Exception as error:  # noqa: BLE001  # a fault of ours must not block other runs
            _log.exception("run.fault", extra={"run": run})
            reason = f"a fault in fedvol ({type(error).__name__}); the server's log says where"
            self._end(request, RunState.FAILED, reason=reason)
        else:
            self._end(request, RunState.FINISHED, reason="")

    def _why_failed(self, request: RunRequest) -> str | None:
        """Why a started run failed before a coordinator died that had not ended it yet.

        A run that was resumed after a failure is paused until it is taken.
        """
        record = self._state.runs.run(request.run)
        if record is None:
            return why_job_failed(self._state.folder.fingerprint(request.run), request)
        return record.reason if record.state is RunState.FAILED else None

    def _play(self, run: RunId) -> None:
        record = self._state.runs.run(run)
        if record is not None:
            self._conducts(run, record.plan, self._gate(run, record.plan))
            return
        proposal = self._state.store.agreements.proposal(run)
        if proposal is None or proposal.kind != "fingerprint":
            # The server died between the proposal and the run's record.
            raise FedvolError(f"run {run}", "its record is missing", "Propose it again.")
        asked = fingerprint_asked(proposal)
        gate = self._gate(run, asked)

        def work(link: Link) -> None:
            conduct_job(
                link,
                job=run,
                asked=asked,
                gate=gate,
                path=self._state.folder.fingerprint(run),
                observer=self._observer,
            )

        self._reaches(run, gate, work)

    def _gate(self, run: RunId, plan: Plan | Proposal) -> RunGate:
        return RunGate(
            run,
            plan=plan,
            state=self._state,
            audit=self._audit,
            clock=self._clock,
            wait=self._wait,
            observer=self._observer,
        )

    def _settle_stopped(self) -> None:
        for one in self._state.store.agreements.requests():
            if one.wanted is Wanted.STOPPED:
                reason = f"{one.by} stopped it" + (f": {one.reason}" if one.reason else "")
                self._end(one, RunState.STOPPED, reason=reason)

    def _end(self, request: RunRequest, state: RunState, *, reason: str) -> None:
        """Write the final state, if the run has none, and take it off the queue."""
        run = request.run
        record = self._state.runs.run(run)
        if record is not None and record.state in _OPEN and state is not RunState.FINISHED:
            self._state.runs.set_run_state(run, state, reason=reason)
        if record is None:
            path = self._state.folder.fingerprint(run)
            end_job(path, state, request=request, reason=reason)
        issue_receipts(
            run,
            runs=self._state.runs,
            store=self._state.store,
            audit=self._audit,
            key=self._state.key,
        )
        self._state.store.agreements.want(run, Wanted.ENDED, by=_COORDINATOR, reason=reason)
        ended = self._state.runs.run(run)
        status = ended.state if ended is not None else state
        self._observer.event("run.ended", name=run, status=status.value, reason=reason)

    def _over_network(self, run: RunId, plan: Plan, gate: Gate) -> Conducted:
        with StateFile(self._state.folder.initial(run)) as file:
            initial = file.read_all()
        return conduct(
            run,
            plan=plan,
            initial=initial,
            folder=self._state.folder,
            private_port=self._state.config.listen.private_port,
            end=self._server_end(),
            observer=self._observer,
            gate=gate,
        )

    def _reach(self, job: RunId, gate: RunGate, work: Work) -> None:
        over_engine(
            work,
            run=job,
            folder=self._state.folder,
            private_port=self._state.config.listen.private_port,
            end=self._server_end(),
            max_bytes=0,  # a fingerprint is figures alone
            observer=self._observer,
            gate=gate,
        )

    def _server_end(self) -> ServerEnd:
        return ServerEnd(key=self._state.key, sites=self._state.registry, audit=self._audit)
