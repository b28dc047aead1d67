"""A server and sites as processes of their own, on loopback with TLS, for tests that kill them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hospital import HOST, Server, add_to_config, approve, joined, keep_proposal, source_toml

from fedvol.files import write_atomic
from fedvol.identity import IdentityKey
from fedvol.plan import Plan
from fedvol.site import SiteFolder
from fedvol.store import write_state
from fedvol.types import SiteId, State

START_S = 300.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


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
        told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [one for one in told if one["event"] == name]

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
    """A server and its sites, on one machine; the sites are as `fedvol site start` serves them.

    Attributes:
        folder: Everything of them.
        plan: What is run.
        initial: Its initial weights.
        data: Each site's volumes.
    """

    folder: Path
    plan: Plan
    initial: State
    data: Mapping[SiteId, Path]
    public_port: int = field(default_factory=free_port)
    private_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.keys.mkdir(parents=True)
        self.trust = Server(
            folder=self.folder / "trust",
            identity=IdentityKey.create(self.keys / "server.pem"),
            port=self.public_port,
        )
        self.hospitals = {site: self._hospital(site) for site in self.data}
        keys = {
            site: {"identity": identity.hex, "node": node.hex}
            for site, (identity, node) in self.trust.enrolled.items()
        }
        (self.keys / "sites.json").write_text(json.dumps(keys))
        assert self.trust.roster is not None
        (self.folder / "roster.json").write_bytes(self.trust.roster)
        self._list_proposals()
        (self.folder / "plan.json").write_text(self.plan.model_dump_json())
        write_state(self.folder / "initial.safetensors", self.initial.items(), metadata={})
        self.engine = self._party("engine")
        self.coordinator = self._party("coordinator", "none")
        self.sites = {site: self._party("site", site) for site in self.data}

    @property
    def keys(self) -> Path:
        """The server's keys, and what it knows of the sites'."""
        return self.folder / "keys"

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

    def start(self) -> None:
        """Start engine and sites, and wait until all of them are there."""
        self.engine.start()
        self.engine.await_event("listening")
        for party in self.sites.values():
            party.start()
        for party in self.sites.values():
            party.await_event("link.up")

    def begin(self, run: str) -> Party:
        """Start a coordinator for a new run, once every site has approved it and has its cases."""
        for held in self.hospitals.values():
            keep_proposal(held, self.trust, run, self.plan)
            approve(held, run)
        self._list_proposals()
        for party in self.sites.values():
            party.await_event("prepare.done")
        self.coordinator = self._party("coordinator", run)
        self.coordinator.start()
        return self.coordinator

    def finish(self, *, timeout_s: float = 600.0) -> dict[str, Any]:
        """Wait for the end of the run; what the coordinator says of it."""
        status = self.coordinator.wait(timeout_s)
        if status != 0:
            raise AssertionError(self.coordinator.log.read_text()[-4000:])
        return self.coordinator.events("conducted")[-1]

    def _hospital(self, site: SiteId) -> SiteFolder:
        held = joined(self.folder / "sites" / site, self.trust, site=site)
        text = held.config_file.read_text().replace("= 10", "= 1")
        held.config_file.write_text(text.replace("num_threads = 8", "num_threads = 1\nworkers = 1"))
        add_to_config(held, "\n[link]\nsync_s = 1.0\npoll_s = 0.1\nheartbeat_s = 10\n")
        add_to_config(held, source_toml(self.data[site]))
        return held

    def _list_proposals(self) -> None:
        said = {"proposals": list(self.trust.proposals.values())}
        write_atomic(self.folder / "proposals.json", json.dumps(said).encode())

    def _party(self, kind: str, name: str = "") -> Party:
        words = [kind, str(self.folder), str(self.public_port), str(self.private_port), name]
        return Party(name="-".join(filter(None, (kind, name))), words=words, folder=self.folder)
