"""A server and sites as processes of their own, on loopback with TLS, for tests that kill them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from hospital import source_toml
from relay import Relay
from server_parties import Hospital, invitation_line, make_consortium

from fedvol.identity import NodeKey
from fedvol.plan import Plan
from fedvol.server.proposing import run_proposal
from fedvol.server.server_state import ServerState
from fedvol.site import SiteFolder, init_site
from fedvol.site.preparing import fitting_source, is_prepared
from fedvol.store import write_state
from fedvol.types import RunId, SiteId, State

HOST = "127.0.0.1"
START_S = 300.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


def until(holds: Callable[[], object], *, what: str, timeout_s: float = START_S) -> None:
    """Wait until something holds."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, f"in vain: {what}"
        time.sleep(0.01)


@dataclass(kw_only=True)
class Party:
    """A process that is part of a federation, and what it says.

    Attributes:
        name: For its log.
        words: What is run.
        folder: Where its log lies.
    """

    name: str
    words: Sequence[str]
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "network_parties", *self.words],
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parent,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def kill(self) -> None:
        """Pull the plug."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, and wait."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.name} did not end: {self.log.read_text()[-2000:]}"
            ) from None

    def wait(self, timeout_s: float) -> int:
        """Its exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it told of one kind."""
        lines = self.log.read_text(errors="replace").splitlines()
        begin = json.dumps({"event": name})[:-1]
        return [json.loads(line) for line in lines if line.startswith(begin) and line[-1] == "}"]

    def await_event(self, name: str, *, timeout_s: float = START_S, count: int = 1) -> None:
        """Wait until it told something."""
        deadline_s = time.monotonic() + timeout_s
        while not self.log.exists() or len(self.events(name)) < count:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended: {self.log.read_text()[-3000:]}")
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{self.name}: no {name}: {self.log.read_text()[-3000:]}")
            time.sleep(0.05)


@dataclass(kw_only=True)
class Network:
    """A server and its hospitals, on one machine; the first site's wire can be cut.

    Hospitals approve every run of the plan's study by a rule, and prepare their own cases.

    Attributes:
        folder: Everything of them.
        plan: What is run.
        initial: Its initial weights.
        volumes: Folder of each site's volumes.
    """

    folder: Path
    plan: Plan
    initial: State
    volumes: Mapping[SiteId, Path]
    public_port: int = field(default_factory=free_port)
    private_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.put(self.plan, self.initial)
        self._open = ExitStack()
        self.wire = self._open.enter_context(Relay(self.public_port).listening())
        self.first = min(self.volumes)
        consortium = make_consortium(
            self.folder, port=self.public_port, private_port=self.private_port
        )
        with closing(ServerState.open(self.server)) as state:
            self.held = {site: self._made(state, site) for site in self.volumes}
            consortium.join(
                state,
                *(
                    Hospital(name=site, identity=one.identity(), node=NodeKey.load(one.node_file))
                    for site, one in self.held.items()
                ),
            )
        self.engine = self._party("engine")
        self.coordinator = self.coordinator_of("federated")
        self.sites = {site: self.site_of(site) for site in self.volumes}

    def _made(self, state: ServerState, site: SiteId) -> SiteFolder:
        """A site's folder with keys and settings of its own."""
        held = SiteFolder(folder=self.folder / "sites" / site)
        init_site(held, invitation_line(state, site), device="cpu", now=datetime.now(UTC))
        held.token_file.unlink()
        text = held.config_file.read_text().replace("= 10", "= 1")  # floors of the policy
        text = text.replace('device = "cpu"', 'device = "cpu"\nworkers = 1')
        if site == self.first:
            text = text.replace(str(self.public_port), str(self.wire.port))
        rule = f'enabled = true\nkinds = ["run"]\nstudies = ["{self.plan.study.name}"]\n'
        held.config_file.write_text(
            f"{text}\n[link]\nheartbeat_s = 10\npoll_s = 0.1\nsync_s = 0.5\n"
            f"\n[auto_approve]\n{rule}{source_toml(self.volumes[site], data=self.plan.study.data)}"
        )
        return held

    @property
    def server(self) -> Path:
        """The server's state folder."""
        return self.folder / "server"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for party in (self.coordinator, *self.sites.values(), self.engine):
            if party.process is not None and party.process.poll() is None:
                party.kill()
        self._open.close()

    def put(self, plan: Plan, initial: State) -> None:
        """Have the runs that begin from now on be of a plan; its study has the first one's name."""
        self.plan, self.initial = plan, initial
        (self.folder / "plan.json").write_text(plan.model_dump_json())
        write_state(self.folder / "initial.safetensors", initial.items(), metadata={})

    def start(self) -> None:
        """Start engine and sites, and wait until all of them are there."""
        self.engine.start()
        self.engine.await_event("listening")
        for party in self.sites.values():
            party.start()
        for party in self.sites.values():
            party.await_event("link.up")

    def begin(self, run: str) -> Party:
        """Start a coordinator for a run, new or begun; one that a failed test left ends.

        The sites agreed to it before, and their cases are ready.
        """
        self._agree(RunId(run))
        if self.coordinator.process is not None and self.coordinator.process.poll() is None:
            self.coordinator.kill()
        self.coordinator = self.coordinator_of(run)
        self.coordinator.start()
        return self.coordinator

    def _agree(self, run: RunId) -> None:
        with closing(ServerState.open(self.server)) as state:
            agreements = state.store.agreements
            if agreements.proposal(run) is None:
                now = datetime.now(UTC)
                agreements.propose(
                    run_proposal(run, plan=self.plan, key=state.key, operator="operator", now=now)
                )
            until(lambda: len(agreements.consents(run)) == len(self.held), what="sites approve")
        until(lambda: all(map(self._is_ready, self.held.values())), what="cases are ready")

    def _is_ready(self, held: SiteFolder) -> bool:
        study = self.plan.study
        return is_prepared(held, fitting_source(held.config(), study.data), study)

    def finish(self, *, timeout_s: float = 600.0) -> dict[str, Any]:
        """Wait for the end of the run; what the coordinator says of it."""
        status = self.coordinator.wait(timeout_s)
        if status != 0:
            raise AssertionError(self.coordinator.log.read_text()[-4000:])
        return self.coordinator.events("conducted")[-1]

    def coordinator_of(self, run: str) -> Party:
        """The coordinator of a run."""
        return self._party("coordinator", run)

    def site_of(self, site: SiteId, *, fault: str = "") -> Party:
        """A site's process; with a fault of `network_faults`, one that does not do as it should."""
        return self._party("site", site, more=[fault] if fault else [])

    def hold(self, event: str, *, count: int = 1) -> None:
        """Have the next coordinator stand still when it told something so many times.

        Whatever is done meanwhile is done in that phase of the run; `go_on` ends it.
        """
        self._held.write_text(json.dumps([event, count]))

    def go_on(self) -> None:
        """Let a coordinator that stands still go on."""
        self._held.unlink(missing_ok=True)

    @property
    def _held(self) -> Path:
        return self.folder / "hold.json"

    def _party(self, kind: str, name: str = "", *, more: Sequence[str] = ()) -> Party:
        return Party(
            name="-".join(filter(None, (kind, name))),
            words=[kind, str(self.folder), name, *more],
            folder=self.folder,
        )
