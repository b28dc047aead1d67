"""`ProgressTeller`: tells the server how far a training is, while it goes on.

Only stage, round, step, number of steps and seconds a step leave. The first report of each round
is written to the audit log before it leaves, and stands for those that follow.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, final

from fedvol.audit import AuditRecord, AuditSink
from fedvol.errors import FedvolError, PrivacyError
from fedvol.identity import Tag, sign_body
from fedvol.plan import digest_bytes
from fedvol.site.consent import consent_name
from fedvol.site.folder import SiteFolder
from fedvol.site.gate import Admitted, Gate
from fedvol.site.trust import held_roster
from fedvol.store import SiteStore
from fedvol.telemetry import Observer
from fedvol.types import Json, RunId

if TYPE_CHECKING:
    from fedvol.transport.network.site_calls import Answer

EVERY_S = 5.0
"""Seconds between two reports; the first is told at the first step."""
RETRY_S = 15.0
"""Seconds without one after a report that the server did not take."""


class Server(Protocol):
    """Who is told; `SiteCalls` over the network."""

    def progress(self, body: bytes) -> "Answer":
        """Bring a report."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """The training under way; `begun_s` is when its first step was seen here, `first` which."""

    run: RunId
    stage: int
    round: int
    step: int
    steps: int
    first: int
    begun_s: float
    now_s: float

    @property
    def place(self) -> tuple[RunId, int, int]:
        return self.run, self.stage, self.round

    @property
    def step_s(self) -> float | None:
        """Seconds a step took so far; None before two were seen."""
        done = self.step - self.first
        return round((self.now_s - self.begun_s) / done, 3) if done else None


@final
class ProgressTeller:
    """An observer of the worker's events that tells the server where its training stands.

    Nothing is told where `policy.tell_progress` is off, the site is paused, the policy forbids the
    run, or nobody approves of it any more.

    Args:
        folder: The site's folder.
        store: Its proposals and consents.
        server: Is told.
        audit: Where the first report of each round is written down.
        observer: Hears of reports that were not taken.
        monotonic_s: Seconds that never go back.
    """

    def __init__(
        self,
        folder: SiteFolder,
        store: SiteStore,
        server: Server,
        *,
        audit: AuditSink,
        observer: Observer,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._store = store
        self._gate = Gate(folder, store, audit=audit)
        self._server = server
        self._audit = audit
        self._observer = observer
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._training: _Training | None = None
        self._first: _Training | None = None
        self._is_idle = False
        self._begun = threading.Event()
        self._written: tuple[RunId, int, int] | None = None
        self._silent_until_s = 0.0

    def event(self, name: str, /, **fields: Json) -> None:
        """Take note of a step, or of the end of a training."""
        match name:
            case "site.training":
                with self._lock:
                    self._training = self._after(fields)
                    if self._is_idle:
                        self._first = self._first or self._training
                    self._begun.set()
            case "site.answered" | "worker.lost":
                with self._lock:
                    self._training = None
                    if self._first is None:
                        self._begun.clear()
            case _:
                pass

    def wait(self, seconds: float) -> bool:
        """Wait until there is a training to tell of, but no longer; whether there is one.

        Its first step is told even if it is over before there is time to.
        """
        with self._lock:
            self._is_idle = True
        return self._begun.wait(seconds)

    def once(self) -> None:
        """Tell where the training stands, if there is one and the site lets it be told.

        Raises:
            SiteFileError: `site.toml` is wrong; then nothing is told.
            AuditError: It cannot be written down; then it does not leave.
            StoreError: The site's folder cannot be read.
        """
        with self._lock:
            training = self._training or self._first
            self._first, self._is_idle = None, False
            if self._training is None:
                self._begun.clear()
        if training is None or self._monotonic_s() < self._silent_until_s:
            return
        agreed = self._agreed(training.run)
        if agreed is None or not agreed.config.policy.tell_progress:
            return
        site = agreed.config.site
        body = sign_body(
            self._folder.identity(),
            Tag.PROGRESS,
            {
                "run": training.run,
                "plan": agreed.proposed.digest,
                "site": site,
                "stage": training.stage,
                "round": training.round,
                "step": training.step,
                "steps": training.steps,
                "step_s": training.step_s,
            },
        )
        if self._written != training.place:
            self._write(training, agreed, body=body, site=site)
            self._written = training.place
        self._send(body)

    def _send(self, body: bytes) -> None:
        """A report that is not taken is not brought again: the next one says more."""
        code = ""
        try:
            told = self._server.progress(body)
            if told.is_taken:
                return
            code = told.code
        except FedvolError as error:
            code = error.code
        self._silent_until_s = self._monotonic_s() + RETRY_S
        self._observer.event("progress.untold", code=code)

    def _after(self, fields: Mapping[str, Json]) -> _Training:
        """The training after a step; that of another round begins its count anew."""
        now_s = self._monotonic_s()
        step = _whole(fields, "step")
        found = _Training(
            run=RunId(str(fields.get("run"))),
            stage=_whole(fields, "stage"),
            round=_whole(fields, "round"),
            step=step,
            steps=_whole(fields, "steps"),
            first=step,
            begun_s=now_s,
            now_s=now_s,
        )
        held = self._training
        if held is None or held.place != found.place or held.step > step:
            return found
        return replace(found, first=held.first, begun_s=held.begun_s)

    def _agreed(self, run: RunId) -> Admitted | None:
        """What the site agrees to of a run at this moment; None if it does not."""
        for record in self._store.proposals():
            if record.run == run and record.kind == "run":
                try:
                    return self._gate.agreed(run, digest=record.digest)
                except PrivacyError:
                    continue
        return None

    def _write(
        self,
        training: _Training,
        agreed: Admitted,
        *,
        body: bytes,
        site: str,
    ) -> None:
        roster = held_roster(self._folder)
        self._audit.append(
            AuditRecord(
                kind="progress",
                site=site,
                recipient="server",
                run=training.run,
                plan=agreed.proposed.digest,
                stage=training.stage,
                round=training.round,
                action="progress",
                form=f"step of the round and seconds a step, every {EVERY_S:.0f} s",
                num_tensors=0,
                size_bytes=len(body),
                digest=digest_bytes(body),
                suppressed=0,
                code="",
                recipient_key="" if roster is None else roster.server.identity.fingerprint,
                consent=consent_name(agreed.consent.signed),
            )
        )


def _whole(fields: Mapping[str, Json], name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0
