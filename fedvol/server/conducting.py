"""Conducting a run over the network, in a process that may be killed at any moment."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar, final

from fedvol.audit import AuditSink
from fedvol.errors import TransportError
from fedvol.federation import Link, MetricSums, Request
from fedvol.identity import IdentityKey
from fedvol.plan import Plan
from fedvol.server.clock import SystemClock
from fedvol.server.coordinator import Coordinator, Outcome
from fedvol.server.pacing import Pacing, Unpaced
from fedvol.server.server_folder import ServerFolder
from fedvol.store import BlobStore, RunStore, open_engine
from fedvol.telemetry import Observer
from fedvol.transport.flower_link import FlowerLink
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.transport.network.calls import SiteKeys
from fedvol.transport.network.server_run import PrivateAddress, server_run
from fedvol.transport.network.signed_server import SignedServer
from fedvol.types import Digest, RunId, SiteId, State

POLL_S = 0.5
"""Seconds between two looks for answers."""

AWAY_S = 3600.0
"""How long the engine may be away before the coordinator gives up; the run can be gone on with."""

RETRY_S = 1.0

_MAX_TENSORS_OF_ONE = 3
"""Tensors that travel for one of the network's, its companions among them."""

_BYTES_OF_ONE = 8
"""Bytes of a number in its widest form."""

_BESIDE_BYTES = 64 << 20
"""Room for headers, and for the figures of a judgement."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conducted:
    """A run that was conducted to its end.

    Attributes:
        outcome: The release, and what sites said of their data.
        tests: Sums of each site's test cases.
        personal_tests: The same of each site's personal model; empty where there are none.
    """

    outcome: Outcome
    tests: Mapping[SiteId, MetricSums]
    personal_tests: Mapping[SiteId, MetricSums]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEnd:
    """The server's end of its links.

    Attributes:
        key: The server's identity, which signs what it asks.
        sites: Identities of the active sites, which sign what they answer.
        audit: Where every message is written down.
    """

    key: IdentityKey
    sites: SiteKeys
    audit: AuditSink


class Gate(Pacing, Protocol):
    """What stands between a run and its sites: consent, and what the operator wants."""

    def admitted(self, link: Link) -> Link:
        """The link to those sites alone that may be asked; waits until enough are there.

        Raises:
            QuorumError: They did not come in time.
            RunPausedError: The operator paused the run meanwhile.
            RunStoppedError: The operator stopped it.
        """
        ...

    def judges(self) -> Collection[SiteId]:
        """Sites whose test figures are wanted: those that take part."""
        ...

    def answered(self, request: Request, digest: Digest, tensors: Digest | None) -> None:
        """Take note of a signed answer."""
        ...


@final
class OpenGate(Unpaced):
    """Every connected site is asked, and nobody interferes; for tests of the network alone.

    Args:
        plan: The plan of the run.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def admitted(self, link: Link) -> Link:
        """The same link."""
        return link

    def judges(self) -> Collection[SiteId]:
        """Every site of the plan."""
        return [SiteId(site) for site in self._plan.sites]

    def answered(self, request: Request, digest: Digest, tensors: Digest | None) -> None:
        """Nothing is noted."""
        del request, digest, tensors


def conduct(
    run: RunId,
    *,
    plan: Plan,
    initial: State,
    folder: ServerFolder,
    private_port: int,
    end: ServerEnd,
    observer: Observer,
    gate: Gate | None = None,
    poll_s: float = POLL_S,
) -> Conducted:
    """Bring a run to its end, from wherever its record stands, and have its release judged.

    Args:
        run: The run.
        plan: What it does.
        initial: Its initial weights.
        folder: The server's state folder.
        private_port: Where the engine listens on the loopback address.
        end: The server's end of its links.
        observer: Hears of progress.
        gate: Who may be asked, and whether to go on; None: everybody, always.
        poll_s: Seconds between two looks for answers.

    Raises:
        QuorumError: Too few sites, too often.
        RunPausedError: The gate said so.
        RunStoppedError: The gate said so.
        TransportError: The engine was away for longer than `AWAY_S`.
        AuditError: A message cannot be written down.
    """
    door = gate or OpenGate(plan)
    with closing(RunStore(open_engine(folder.store))) as store:
        coordinator = Coordinator(
            run=run,
            plan=plan,
            initial=initial,
            store=store,
            blobs=BlobStore(folder.blobs(run)),
            clock=SystemClock(),
            observer=observer,
            pacing=door,
        )
        return over_engine(
            lambda link: bring_to_end(coordinator, link, gate=door),
            run=run,
            folder=folder,
            private_port=private_port,
            end=end,
            max_bytes=_largest_answer(plan),
            observer=observer,
            gate=door,
            poll_s=poll_s,
        )


def over_engine(
    work: Callable[[Link], _Result],
    *,
    run: RunId,
    folder: ServerFolder,
    private_port: int,
    end: ServerEnd,
    max_bytes: int,
    observer: Observer,
    gate: Gate,
    poll_s: float = POLL_S,
) -> _Result:
    """Do something over the link to the sites; again from its beginning where the engine was away.

    Args:
        work: Goes on from wherever its record stands.
        run: The run or job.
        folder: The server's state folder.
        private_port: Where the engine listens on the loopback address.
        end: The server's end of its links.
        max_bytes: Largest file of tensors that can be an answer.
        observer: Hears that the engine is away.
        gate: Who may be asked, and whether to go on.
        poll_s: Seconds between two looks for answers.

    Raises:
        TransportError: The engine was away for longer than `AWAY_S`.
        AuditError: A message cannot be written down.
    """
    blobs = BlobFolder(folder.exchange)
    private = PrivateAddress(port=private_port, secret=folder.secret())
    outage = _Outage(SystemClock())
    while True:
        try:
            with server_run(private) as grid:
                outage.over()
                carrier = SignedServer(
                    end.key,
                    sites=end.sites,
                    blobs=blobs,
                    max_bytes=max_bytes,
                    audit=end.audit,
                    answered=gate.answered,
                )
                link = gate.admitted(
                    FlowerLink(grid, carrier=carrier, poll_s=poll_s, awaits_return=True)
                )
                return work(link)
        except TransportError as error:
            if outage.lasts_s() > AWAY_S:
                raise
            observer.event("engine.down", name=run, what=error.what)
            time.sleep(RETRY_S)


def _largest_answer(plan: Plan) -> int:
    """Bytes of the largest file that can be an answer: every tensor with all its companions."""
    networks = [plan.network_of(stage) for stage in range(len(plan.study.stages))]
    num_values = max(sum(math.prod(one.shape) for one in net.tensors) for net in networks)
    return _MAX_TENSORS_OF_ONE * _BYTES_OF_ONE * num_values + _BESIDE_BYTES


@final
class _Outage:
    """For how long the engine has been away."""

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock
        self._began_s: float | None = None

    def over(self) -> None:
        """The engine is there."""
        self._began_s = None

    def lasts_s(self) -> float:
        """Seconds since it was first found away; asked whenever it is."""
        now_s = self._clock.monotonic_s()
        self._began_s = self._began_s if self._began_s is not None else now_s
        return now_s - self._began_s


def bring_to_end(coordinator: Coordinator, link: Link, *, gate: Gate) -> Conducted:
    """Bring a run to its end over a link, and have its release judged.

    Args:
        coordinator: Of the run.
        link: To the sites that may be asked.
        gate: Whose figures are wanted.
    """
    outcome = coordinator.conduct(link)
    judges = gate.judges()
    tests = coordinator.test(link, outcome, judges=judges)
    is_personal = outcome.personal_round is not None
    personal = coordinator.test_personal(link, outcome, judges=judges) if is_personal else {}
    return Conducted(outcome=outcome, tests=tests, personal_tests=personal)
