"""`RunGate`: one run's consent, the operator's wish, its wait for sites, and its receipts."""

from collections.abc import Callable, Iterator
from typing import final

from fedvol.audit import AuditSink
from fedvol.config.server import Waiting
from fedvol.errors import QuorumError, RunPausedError, RunStoppedError
from fedvol.federation import TRAINING, Link, Request
from fedvol.plan import Plan, Proposal
from fedvol.server.clock import Clock
from fedvol.server.consented_link import ConsentedLink
from fedvol.server.receipts import issue_receipts
from fedvol.server.server_state import ServerState
from fedvol.store import AnswerRecord, ContributionKey, Wanted
from fedvol.telemetry import Observer
from fedvol.types import Digest, RunId, SiteId

STEP_S = 1.0
RETRY_S = 20.0
"""Seconds between two questions to sites that would not train."""


@final
class RunGate:
    """What stands between a run and its sites.

    Args:
        run: The run.
        plan: Its plan; of a fingerprint job, what sites were asked.
        state: The server's folder, read.
        audit: Where receipts are written down.
        clock: Time.
        wait: Waits so many seconds.
        observer: Hears whom the run waits for.
    """

    def __init__(
        self,
        run: RunId,
        *,
        plan: Plan | Proposal,
        state: ServerState,
        audit: AuditSink,
        clock: Clock,
        wait: Callable[[float], None],
        observer: Observer,
    ) -> None:
        self._run = run
        self._plan = plan
        self._state = state
        self._audit = audit
        self._clock = clock
        self._wait = wait
        self._observer = observer

    def consenting(self) -> frozenset[SiteId]:
        """Sites of the plan that agree now and may take part."""
        active = set(self._state.registry.active())
        agreed = self._state.store.agreements.consenting(self._run)
        return frozenset(site for site in agreed if site in active and site in self._plan.sites)

    def admitted(self, link: Link) -> Link:
        """The link to consenting sites, once enough of them are there.

        Raises:
            QuorumError: They did not come in time.
            RunPausedError: The operator paused the run meanwhile.
            RunStoppedError: The operator stopped it.
            TransportError: The link is down.
        """
        consented = ConsentedLink(link, consenting=self.consenting)
        self._await_sites(consented, limits=self._state.config.waiting)
        return consented

    def between_rounds(self) -> None:
        """Sign what is due, then do as the operator wants.

        Raises:
            RunPausedError: The operator paused the run.
            RunStoppedError: The operator stopped it.
        """
        issue_receipts(
            self._run,
            runs=self._state.runs,
            store=self._state.store,
            audit=self._audit,
            key=self._state.key,
        )
        self._heed()

    @property
    def sites_return(self) -> bool:
        """They do: a hospital's link, hours and pauses are its own."""
        return True

    def attempts(self) -> Iterator[None]:
        """At once, then every `RETRY_S` until the time for a quorum has passed.

        Raises:
            RunPausedError: The operator paused the run meanwhile.
            RunStoppedError: The operator stopped it.
        """
        began_s = self._clock.monotonic_s()
        yield
        while self._clock.monotonic_s() - began_s < self._state.config.waiting.for_quorum_s:
            self._observer.event("run.waiting", name=self._run, absent=[])
            for _ in range(round(RETRY_S / STEP_S)):
                self._heed()
                self._wait(STEP_S)
            yield

    def judges(self) -> frozenset[SiteId]:
        """The sites that agree now: whoever left is not waited for."""
        return self.consenting()

    def answered(self, request: Request, digest: Digest, tensors: Digest | None) -> None:
        """Take note of the signed answer that brings a contribution."""
        if request.action in TRAINING:
            self._state.store.agreements.put_answer(
                ContributionKey(
                    run=request.run, stage=request.stage, round=request.round, site=request.site
                ),
                AnswerRecord(digest=digest, tensors=tensors),
            )

    def _heed(self) -> None:
        request = self._state.store.agreements.request(self._run)
        assert request is not None
        reason = f": {request.reason}" if request.reason else ""
        if request.wanted is Wanted.PAUSED:
            raise RunPausedError(
                f"run {self._run}", f"{request.by} paused it{reason}", "Resume it when it suits."
            )
        if request.wanted is Wanted.STOPPED:
            raise RunStoppedError(
                f"run {self._run}", f"{request.by} stopped it{reason}", "Propose a new run."
            )

    def _await_sites(self, link: Link, *, limits: Waiting) -> None:
        began_s = self._clock.monotonic_s()
        minimum = self._plan.study.federation.min_sites
        told: tuple[SiteId, ...] | None = None
        while True:
            self._heed()
            present, agreed = link.sites(), self.consenting()
            waited_s = self._clock.monotonic_s() - began_s
            if len(present) >= minimum and (
                len(present) == len(agreed) or waited_s >= limits.for_all_s
            ):
                return
            absent = tuple(sorted(agreed - set(present)))
            if waited_s >= limits.for_quorum_s:
                raise QuorumError(
                    f"run {self._run}",
                    f"{len(present)} of at least {minimum} consenting sites came within "
                    f"{limits.for_quorum_s:.0f} s (absent: {', '.join(absent) or 'none'})",
                    "See that the sites are running, then resume the run.",
                )
            if absent != told:
                self._observer.event("run.waiting", name=self._run, absent=[*absent])
                told = absent
            self._wait(STEP_S)
