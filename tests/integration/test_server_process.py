"""`fedvol server start` for real: TLS on loopback, a hospital that joins, a kill, a clean end."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from network import free_port
from server_parties import Hospital

from fedvol.identity import Invitation, client_context

START_S = 120.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class Server:
    """A server's process, and the commands of its operator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.private_port = free_port(), free_port()
        self.log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def fedvol(self, *words: str | Path, status: int = 0) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "fedvol", *map(str, words), "--json"],
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, done.stderr.decode()
        return json.loads(done.stdout.splitlines()[-1])

    def start(self) -> None:
        self.log.touch()
        before = self.told("coordinator.started")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fedvol", "server", "start", "server"],
                cwd=self.folder,
                env=ENVIRONMENT,
                stdout=log,
                stderr=log,
            )
        self.await_(lambda: self.told("coordinator.started") > before)

    def told(self, event: str) -> int:
        return sum(line.startswith(event) for line in self.log.read_text().splitlines())

    def await_(self, holds: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + START_S
        while not holds():
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.1)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.fedvol("root", "init", "--out", "root", "--consortium", "Four Hospitals")
    server.fedvol(
        "server", "init", "server",
        "--root", "root/root.json",
        "--address", f"127.0.0.1:{server.port}",
        "--private-port", str(server.private_port),
    )  # fmt: skip
    server.start()
    yield server
    if server.process is not None and server.process.poll() is None:
        server.process.kill()
        server.process.wait()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody buried yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")


def test_a_hospital_joins_a_real_server(server: Server) -> None:
    invited = server.fedvol("site-admin", "invite", "north")
    invitation = Invitation.parse(invited["line"])
    north = Hospital(name="north")
    base = f"https://{invitation.server}"
    with httpx.Client(
        verify=client_context(invitation.authority_pem), trust_env=False, base_url=base
    ) as client:
        for path in ("/fedvol/operator/v1/status", "/v1/control/list-runs", "/", "/docs"):
            assert client.get(path).status_code == 404, path
        body = north.enrolment(invitation.token)
        enrolled = client.post("/fedvol/v1/enrol", content=body)
        assert enrolled.json()["status"] == "waiting"
        path = "/fedvol/v1/roster"
        assert client.get(path).status_code == 401
        assert client.get(path, headers=north.call("GET", path)).status_code == 404
        other = Hospital(name="north").enrolment(invitation.token)
        refused = client.post("/fedvol/v1/enrol", content=other)
        assert (refused.status_code, refused.json()) == (403, {"code": "FV-TRAN-026"})

        (site,) = server.fedvol("site-admin", "list")["sites"]
        assert (site["fingerprint"], site["waits_for_root"]) == (
            enrolled.json()["fingerprint"],
            True,
        )
        path = "/fedvol/v1/proposals"
        assert client.get(path, headers=north.call("GET", path)).status_code == 401
        server.fedvol("site-admin", "roster", "draft", "draft.json")
        server.fedvol(
            "root", "sign-roster", "draft.json", "--key", "root", "--out", "roster.json", "--yes"
        )
        put = server.fedvol("site-admin", "roster", "put", "roster.json")
        assert put["active"] == ["north"]
        roster = "/fedvol/v1/roster"
        held = client.get(roster, headers=north.call("GET", roster))
        assert held.content == (server.folder / "roster.json").read_bytes()
        answer = client.get(path, headers=north.call("GET", path))
        assert (answer.status_code, answer.json()) == (200, {"proposals": []})

        assert server.fedvol("site-admin", "suspend", "north")["takes_part"] is False
        assert client.get(path, headers=north.call("GET", path)).status_code == 401
        assert server.fedvol("site-admin", "resume", "north")["takes_part"] is True
        assert client.get(path, headers=north.call("GET", path)).status_code == 200
        assert server.told("sites.failed") == 0

    with (
        pytest.raises(httpx.ConnectError),
        httpx.Client(trust_env=False, base_url=base) as stranger,
    ):
        stranger.get("/health")  # who does not trust the consortium's authority
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(cadata=invitation.authority_pem.decode())
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{base}/health", verify=old, trust_env=False)

    second = server.fedvol("server", "start", "server", status=7)
    assert second["error"]["code"] == "FV-STORE-001"
    status = server.fedvol("server", "status")
    assert (status["sites_active"], status["coordinator_starts"]) == (1, 1)
    os.kill(status["coordinator"], signal.SIGKILL)
    server.await_(lambda: server.told("coordinator.started") == 2)
    coordinator = server.fedvol("server", "status")["coordinator"]
    assert server.stop() == 0
    assert not is_alive(coordinator)
    assert server.told("server.ended") == 1

    server.start()  # everything is still known
    assert server.fedvol("server", "status")["roster"] == 1
    assert server.stop() == 0


def test_the_coordinator_ends_with_a_killed_server(server: Server) -> None:
    coordinator = server.fedvol("server", "status")["coordinator"]
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    deadline_s = time.monotonic() + 30
    while is_alive(coordinator):
        assert time.monotonic() < deadline_s, "two coordinators could meet"
        time.sleep(0.1)
