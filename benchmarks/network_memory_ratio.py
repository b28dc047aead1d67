"""The real server with a hundred sites: its memory, and the seconds of a round.

The server is `fedvol server start`, with TLS, signatures and a coordinator of its own. All sites
are in one other process, `python -m benchmarks.network_memory_ratio FOLDER`: each has its node, its
keys and its signed answers, and computes nothing.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import fedvol
from benchmarks.measurement import REPOSITORY, Measurement, Size
from benchmarks.phantom_study import study_of_all
from fedvol.audit import AuditLog
from fedvol.cli.server import server_text
from fedvol.config.base import Section
from fedvol.errors import FedvolError
from fedvol.federation import (
    Action,
    EvaluationReport,
    HealthReport,
    MetricSums,
    Request,
    RunState,
    SiteState,
    TrainReport,
    to_arrays,
)
from fedvol.files import write_atomic
from fedvol.identity import (
    IdentityKey,
    NodeKey,
    RootFolder,
    RosterDraft,
    ServerEntry,
    SiteEntry,
    SiteStatus,
    Tag,
    client_context,
    next_roster,
    sign_body,
    write_moment,
)
from fedvol.plan import (
    NetworkDescription,
    Plan,
    TensorKind,
    TensorSpec,
    class_names,
    metric_keys,
    selection_metrics,
    state_digest,
)
from fedvol.privacy import Contribution
from fedvol.privacy.contribution import Kind, sealed
from fedvol.server.agreeing import AgreementDesk
from fedvol.server.proposing import keep_initial, run_proposal
from fedvol.server.server_state import ServerState, create_server
from fedvol.store import Wanted, write_state
from fedvol.telemetry import Broadcast
from fedvol.transport.clock import SystemClock
from fedvol.transport.engine import Message
from fedvol.transport.flower import failed_reply, make_client_app
from fedvol.transport.network.blob_client import BlobClient
from fedvol.transport.network.fleet_connection import FleetConnection
from fedvol.transport.network.fleet_node import FleetNode, NodeTiming
from fedvol.transport.network.signed_site import SignedSite
from fedvol.types import Digest, RunId, SiteId, State

_RUN = RunId("timed")
_CONSORTIUM = "Timed"
_HOST = "127.0.0.1"
_LIMIT_S = 3600.0
_LOOK_S = 0.5
_POLL_S = 5.0
"""Seconds between two questions of a site for work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    few: int
    many: int
    rounds: int
    parameters: int


_CASES: dict[Size, _Case] = {
    "tiny": _Case(few=2, many=4, rounds=1, parameters=1 << 10),
    "default": _Case(few=10, many=100, rounds=2, parameters=1 << 18),
    "large": _Case(few=10, many=100, rounds=3, parameters=1 << 24),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Of one federation: peaks in MiB, seconds of a round (median), all seconds of computing."""

    main_mib: float
    coordinator_mib: float
    round_s: float
    cpu_s: float


def measure(size: Size) -> Measurement:
    """Peak memory of the server's two processes with many sites over that with few."""
    case = _CASES[size]
    few, many = (_federation(case, num_sites=number) for number in (case.few, case.many))
    return Measurement(
        name="network_memory_ratio",
        value=(many.main_mib + many.coordinator_mib) / (few.main_mib + few.coordinator_mib),
        unit="ratio",
        baseline=f"the same server with {case.few} sites",
        detail={
            "sites": case.many,
            "baseline_sites": case.few,
            "parameters": case.parameters,
            "rounds": case.rounds,
            "main_peak_mib": many.main_mib,
            "baseline_main_peak_mib": few.main_mib,
            "coordinator_peak_mib": many.coordinator_mib,
            "baseline_coordinator_peak_mib": few.coordinator_mib,
            "round_s": many.round_s,
            "baseline_round_s": few.round_s,
            "server_cpu_s": many.cpu_s,
            "baseline_server_cpu_s": few.cpu_s,
        },
    )


# --- the server's side --------------------------------------------------------------------------


def _federation(case: _Case, *, num_sites: int) -> _Found:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = _plan(case, num_sites=num_sites)
        _create(folder, plan=plan)
        _agree(folder, plan=plan)
        server = [sys.executable, "-m", "fedvol", "server", "start", str(folder / "server")]
        sites = [sys.executable, "-m", "benchmarks.network_memory_ratio", name]
        with _running(server, log=folder / "log") as main, _running(sites, log=folder / "log"):
            state = ServerState.open(folder / "server")
            try:
                return _finished(state, case, main=main.pid, num_sites=num_sites)
            except BaseException:
                sys.stderr.write((folder / "log").read_text()[-4000:])
                raise
            finally:
                state.close()


def _plan(case: _Case, *, num_sites: int) -> Plan:
    spec = TensorSpec(name="w", shape=(case.parameters,), dtype="float32", kind=TensorKind.ENCODER)
    network = NetworkDescription(tensors=(spec,), initial_digest=state_digest(_weights([spec])))
    return Plan(
        software=fedvol.__version__,
        study=study_of_all(rounds=case.rounds, num_sites=num_sites),
        sites=tuple(f"site_{number:03d}" for number in range(num_sites)),
        network=network,
    )


def _create(folder: Path, *, plan: Plan) -> None:
    """A root, a server with a roster of all sites, and their keys."""
    (folder / "root").mkdir()
    (folder / "server").mkdir()
    port, private = _free_ports(2)
    root = RootFolder.create(folder / "root", consortium=_CONSORTIUM)
    address = f"{_HOST}:{port}"
    text = server_text(consortium=_CONSORTIUM, address=address, port=port, private_port=private)
    text += f"\n[waiting]\nfor_all_s = {_LIMIT_S}\n"
    create_server(folder / "server", config_text=text, root=root.record, operator="operator")
    state = ServerState.open(folder / "server")
    with closing(state):
        draft = RosterDraft(
            consortium=_CONSORTIUM,
            server=ServerEntry(identity=state.key.public),
            sites=tuple(
                SiteEntry(
                    site=site,
                    identity=IdentityKey.create(folder / f"{site}.pem").public,
                    node=NodeKey.create(folder / f"{site}-node.pem").public,
                    status=SiteStatus.ACTIVE,
                )
                for site in plan.sites
            ),
        )
        now = datetime.now(UTC)
        roster = next_roster(draft, consortium=_CONSORTIUM, last=None, now=now, days=1)
        state.registry.put(root.sign(roster).to_bytes(), where="roster", by="operator")
        write_atomic(folder / "authority.pem", state.authority_pem)
    write_atomic(folder / "plan.json", plan.model_dump_json().encode())


def _agree(folder: Path, *, plan: Plan) -> None:
    """The run is proposed, every site approves it, and it is to start."""
    state = ServerState.open(folder / "server")
    with closing(state):
        now = datetime.now(UTC)
        initial = state.folder.initial(_RUN)
        initial.parent.mkdir(parents=True)
        write_state(initial, _weights(plan.network.tensors).items(), metadata={})
        keep_initial(state.folder, _RUN, plan=plan)
        agreements = state.store.agreements
        agreements.propose(
            run_proposal(_RUN, plan=plan, key=state.key, operator="operator", now=now)
        )
        state.runs.create_run(_RUN, plan=plan)
        desk = AgreementDesk(state.store, sites=state.registry)
        for site in plan.sites:
            word = {
                "proposal": _RUN,
                "plan": plan.digest,
                "site": site,
                "decision": "approve",
                "reason": "",
                "time": write_moment(now),
            }
            key = IdentityKey.load(folder / f"{site}.pem")
            desk.consent(SiteId(site), sign_body(key, Tag.CONSENT, word))
        agreements.want(_RUN, Wanted.STARTED, by="operator")


def _finished(state: ServerState, case: _Case, *, main: int, num_sites: int) -> _Found:
    """What a server took, once its run has ended."""
    deadline_s = time.monotonic() + _LIMIT_S
    record = state.runs.run(_RUN)
    while record is None or record.state in (RunState.PROPOSED, RunState.RUNNING):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the run did not end within {_LIMIT_S:.0f} s")
        time.sleep(_LOOK_S)
        record = state.runs.run(_RUN)
    rounds = state.runs.rounds(_RUN)
    took_part = [sum(site.state is SiteState.CONTRIBUTED for site in one.sites) for one in rounds]
    if record.state is not RunState.FINISHED or took_part != [num_sites] * case.rounds:
        raise RuntimeError(f"the run is {record.state.value}: {record.reason or took_part}")
    (coordinator,) = map(int, _children(main))
    return _Found(
        main_mib=_peak_mib(main),
        coordinator_mib=_peak_mib(coordinator),
        round_s=statistics.median(one.seconds for one in rounds),
        cpu_s=_cpu_s(main) + _cpu_s(coordinator),
    )


def _children(process: int) -> list[str]:
    """Processes that any thread of a process started."""
    files = Path(f"/proc/{process}/task").glob("*/children")
    return [child for file in files for child in file.read_text().split()]


def _peak_mib(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _cpu_s(process: int) -> float:
    """Seconds in which a process computed, its start included."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _running(command: list[str], *, log: Path) -> Generator[subprocess.Popen[bytes]]:
    with (
        log.open("ab") as told,
        subprocess.Popen(command, cwd=REPOSITORY, stdout=told, stderr=told) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind((_HOST, 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


# --- the sites' side ----------------------------------------------------------------------------


def _serve_sites(folder: Path) -> None:
    """Every site of the plan, until the process is ended."""
    plan = Plan.model_validate_json((folder / "plan.json").read_text())
    stop = threading.Event()
    for site in plan.sites:
        arguments = (folder, SiteId(site), plan, stop)
        threading.Thread(target=_serve_site, args=arguments, daemon=True).start()
    stop.wait()


def _serve_site(folder: Path, site: SiteId, plan: Plan, stop: threading.Event) -> None:
    """As `fedvol.client.hospital`, but one thread, and an app that computes nothing."""
    state = ServerState.open(folder / "server")
    with closing(state):
        address, server = state.config.address, state.key.public
    key = IdentityKey.load(folder / f"{site}.pem")
    tls = client_context((folder / "authority.pem").read_bytes())
    timing = NodeTiming(poll_s=_POLL_S)
    own = folder / "sites" / site
    own.mkdir(parents=True)
    carrier = SignedSite(
        key,
        server=server,
        blobs=BlobClient(address, tls=tls, key=key, site=site),
        outbox=own / "outbox",
        agreement=_OnePlan(plan.digest),
        audit=AuditLog(own / "audit.jsonl", signer=key),
        refuses=_refuse,
        incoming=own / "incoming",
        clock=SystemClock(),
    )
    connection = FleetConnection(
        address,
        tls=tls,
        key=NodeKey.load(folder / f"{site}-node.pem"),
        heartbeat_s=timing.heartbeat_s,
    )
    node = FleetNode(
        connection,
        site=site,
        state=own / "node",
        timing=timing,
        observer=Broadcast([]),
        departures=_AllDepart(),
    )
    node.serve(
        make_client_app(lambda _, request: _answer(request, plan), carrier=carrier), stop=stop
    )


class _OnePlan:
    """An `Agreement` to one plan for good."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest

    def terms(self, request: Request) -> Digest:
        """The plan."""
        del request
        return self._digest

    def require_still(self, request: Request, *, terms: Digest) -> None:
        """Nothing of it changes."""


class _AllDepart:
    """`Departures` of whatever was answered."""

    def cleared(self, answer: Message, *, to: Message) -> Message:
        """The answer."""
        del to
        return answer

    def failure(self, to: Message, error: FedvolError) -> Message:
        """Flower's error, without a word of the reason."""
        return failed_reply(to, error.code)


def _answer(request: Request, plan: Plan) -> Contribution:
    match request.action:
        case Action.HEALTH:
            health = HealthReport(
                software=fedvol.__version__,
                architecture=plan.network.architecture,
                training_cases=3,
                validation_cases=1,
                test_cases=0,
                skipped={},
            )
            return _said(Kind.HEALTH, health)
        case Action.FINETUNE:
            report = TrainReport(cases=3, steps=1, train_seconds=0.0, loss=1.0)
            return _said(Kind.UPDATE, report, tensors=_weights(plan.network.tensors))
        case Action.VALIDATE:
            return _judged(plan)
        case _:
            raise NotImplementedError(request.action)


def _refuse(request: Request, error: FedvolError) -> Contribution:
    raise RuntimeError(f"{request.site} cannot go on") from error


def _judged(plan: Plan) -> Contribution:
    keys = metric_keys(selection_metrics(plan.study.evaluation), class_names(plan.study.data))
    ones = np.ones(len(keys), dtype=np.int64)
    sums = MetricSums(
        keys=keys,
        sums=np.full((len(keys), 1), 0.5),
        counts=np.ones((len(keys), 1)),
        undefined=0 * ones,
        penalised=0 * ones,
        lone_sites=ones,
    )
    report = EvaluationReport(keys=keys, cases=1, evaluate_seconds=0.0)
    return _said(Kind.EVALUATION, report, tensors=to_arrays(sums)[0])


def _said(kind: Kind, report: Section, *, tensors: State | None = None) -> Contribution:
    """A contribution that no policy had to look at: no case is behind it."""
    return sealed(
        kind,
        values=report.model_dump(mode="json"),
        tensors=tensors or {},
        digest=Digest("0" * 64),
    )


def _weights(specs: list[TensorSpec] | tuple[TensorSpec, ...]) -> State:
    """Different numbers in each place, so that nothing of them can be left out."""
    return {spec.name: np.linspace(0, 1, spec.size, dtype=np.float32) for spec in specs}


if __name__ == "__main__":
    _serve_sites(Path(sys.argv[1]))
