"""A hospital as its people meet it: init, enrol, data, start, approve; then a run over the network.

The server's routes for sites are those of `hospital.Server`, beside the real engine and the real
coordinator; the site is the installed command.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from hospital import HOST, SITE, Server, _Keys
from tiny import Events, tiny_study

from fedvol.audit import AuditLog, compare_logs, verify_log
from fedvol.errors import QuorumError
from fedvol.identity import NodePublicKey
from fedvol.server.conducting import ServerEnd, conduct
from fedvol.server.front_door import FrontDoor, ServerFolder
from fedvol.simulation.federate import make_plan
from fedvol.site import SiteFolder
from fedvol.transport.network.listeners import Certificate
from fedvol.types import RunId, SiteId

STUDY = tiny_study(
    rounds="rounds = 1",
    more="\n[federation]\nmin_sites = 1\nmax_abandoned_rounds = 0\ntrain_limit_s = 120.0\n",
)
WAIT_S = 300.0

# Flower's engine is in this process, and what it uses warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")


def wait_for(what: Callable[[], bool], *, name: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not what():
        assert process.poll() is None, f"the site ended while we waited for: {name}"
        assert time.monotonic() < deadline_s, f"not within {WAIT_S} s: {name}"
        time.sleep(0.1)


def has_torch(process: int) -> bool:
    """Whether a process has PyTorch's library in its memory."""
    return "libtorch" in Path(f"/proc/{process}/maps").read_text()


class Engine:
    """The server's machine without its coordinator."""

    def __init__(self, folder: Path) -> None:
        self.site_routes = Server(folder=folder / "trust")
        self.folder = ServerFolder(folder=folder)
        self.audit = AuditLog(self.folder.audit)
        self.door = FrontDoor(
            self.folder, sites=_Keys(self.site_routes), routes=self.site_routes.routes()
        )
        self.private = self.door.open_private(port=0)
        tls = self.site_routes.tls
        self.door.open_public(
            host=HOST,
            port=self.site_routes.port,
            certificate=Certificate(chain=tls, key=tls),
        )

    def let_in(self) -> None:
        """The root signs, and the engine knows the node."""
        server = self.site_routes
        server.sign_roster()
        nodes: dict[SiteId, NodePublicKey] = {
            SiteId(site): keys[1] for site, keys in server.enrolled.items()
        }
        self.door.set_sites(nodes)

    def conduct(self, run: str, plan: Any, initial: Any) -> Any:
        return conduct(
            RunId(run),
            plan=plan,
            initial=initial,
            folder=self.folder,
            private_port=self.private,
            end=ServerEnd(
                key=self.site_routes.identity,
                sites=_Keys(self.site_routes),
                audit=self.audit,
            ),
            observer=Events(),
            poll_s=0.1,
        )


@pytest.fixture
def engine(tmp_path: Path) -> Generator[Engine]:
    (tmp_path / "server").mkdir()
    engine = Engine(tmp_path / "server")
    yield engine
    engine.door.close()


def test_from_the_invitation_to_a_run_and_its_end(
    tmp_path: Path, tiny_data: Path, engine: Engine, fedvol: Command
) -> None:
    server, folder = engine.site_routes, tmp_path / "site"
    here = ("--folder", folder)
    held = SiteFolder(folder=folder)
    volumes = min(path for path in tiny_data.iterdir() if path.is_dir())
    assert fedvol("site", "init", *here, "--invitation", server.invite()).status == 0
    text = held.config_file.read_text().replace("= 10", "= 1")
    held.config_file.write_text(text + "\n[link]\nsync_s = 0.2\npoll_s = 0.1\nheartbeat_s = 10\n")
    assert fedvol("site", "enrol", *here).status == 0
    added = fedvol("data", "add", volumes, "--name", "ct", "--channels", "CT", *here)
    assert added.status == 0, added.err
    engine.let_in()
    plan, initial = make_plan(STUDY, sites=(SITE,))
    server.propose("r1", plan)
    log = (tmp_path / "site.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "fedvol", "site", "start", *map(str, here)], stdout=log, stderr=log
    )
    try:

        def said() -> dict[str, Any]:
            return json.loads(fedvol("site", "status", *here, "--json").out)

        wait_for(lambda: said()["waiting"] == 1, name="proposal", process=process)
        wait_for(
            lambda: said()["process"].get("link", {}).get("event") == "link.up",
            name="link",
            process=process,
        )
        second = fedvol("site", "start", *here)
        assert second.status == 7
        assert "FV-STORE-001" in second.err

        # Nothing runs before approval.
        with pytest.raises(QuorumError):
            engine.conduct("r1", plan, initial)
        assert said()["process"]["refused"]["code"] == "FV-PRIV-021"

        assert fedvol("consent", "approve", "r1", *here, "--yes").status == 0
        wait_for(
            lambda: said()["process"].get("preparing", {}).get("event") == "prepare.done",
            name="cases",
            process=process,
        )
        wait_for(lambda: len(server.consents) == 1, name="consent delivered", process=process)
        server.propose("r2", plan)
        wait_for(lambda: said()["waiting"] == 1, name="second proposal", process=process)
        assert fedvol("consent", "approve", "r2", *here, "--yes").status == 0
        done = engine.conduct("r2", plan, initial)
        assert done.outcome.best_round == 1
        assert sorted(done.tests) == [SITE]
        # The training was over long before a second report was due; the first is told at once.
        wait_for(lambda: bool(server.told), name="progress", process=process)
        told = server.told[0]
        assert (told["run"], told["round"], told["steps"]) == ("r2", 1, 3)
        assert told["step"] in (1, 2, 3)

        # It prepared cases and carried a training's weights; what trains is in the worker alone.
        lines = map(json.loads, held.events_file.read_text().splitlines())
        workers = [line["process"] for line in lines if line["event"] == "worker.started"]
        assert [has_torch(process.pid), *map(has_torch, workers)] == [False, True]

        assert fedvol("consent", "withdraw", "r2", *here).status == 0
        paused = fedvol("site", "pause", *here, "--reason", "maintenance")
        assert paused.status == 0
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = -9
        log.close()
    words = (tmp_path / "site.log").read_text()
    assert status == 0, words[-3000:]
    assert "Traceback" not in words, words[-3000:]
    kinds = [json.loads(line)["event"]["kind"] for line in held.audit_file.read_text().splitlines()]
    assert kinds.count("consent") == 3
    assert kinds.count("update") == 1
    log = verify_log(held.audit_file, keys=[held.identity().public.hex])
    assert (log.records, log.num_unsigned) == (len(kinds), 0)  # its process signed on the way out
    compared = compare_logs(held.audit_file, engine.folder.audit)
    assert compared.num_contradictions == 0
    assert compared.contributions.num_both == kinds.count("sent")
    assert compared.requests.num_both > kinds.count("update")
    assert (folder / "runs" / "r2" / "state").is_dir()
    assert said()["process"]["is_running"] is False
