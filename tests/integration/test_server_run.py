"""A run by the operator's commands, over a real server and real sites: the same bits as here."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from network import Party, free_port
from server_parties import Consortium, Hospital, make_consortium
from tiny import CPU, Events, tiny_text

from fedvol.cli.operator_access import Access
from fedvol.config.loading import parse_open_study
from fedvol.identity import IdentityKey, NodeKey, Tag, client_context, open_body
from fedvol.server.server_state import ServerState
from fedvol.simulation.output import open_output
from fedvol.simulation.session import Session, open_session
from fedvol.types import SiteId

TEXT = tiny_text(rounds="rounds = 2")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class ServerParty(Party):
    """The command `fedvol server start`, as a party whose words are a whole command."""

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fedvol", *self.words],
                cwd=self.folder,
                env=ENVIRONMENT,
                stdout=log,
                stderr=log,
            )


class World:
    """A consortium whose sites have joined, and a study."""

    def __init__(self, folder: Path, *, data: Path) -> None:
        self.folder, self.data = folder, data
        self.port, self.private_port = free_port(), free_port()
        self.consortium: Consortium = make_consortium(
            folder, port=self.port, private_port=self.private_port
        )
        Access(port=self.private_port, user="operator", token=self.consortium.token).write(
            folder / "fedvol-access.json"
        )
        (folder / "tiny.toml").write_text(TEXT)
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.server = ServerParty(name="server", words=["server", "start", "server"], folder=folder)
        self.sites: list[Party] = []

    def prepare(self) -> Session:
        """Open the data as a simulation does, and give each site a folder of its own."""
        prepared = self.folder / "prepared"
        session = open_session(
            parse_open_study(TEXT, where="tiny.toml"),
            data=self.data,
            output=open_output(prepared, resume=False),
            device=CPU,
            observer=Events(),
        )
        (self.folder / "plan.json").write_text(session.plan.model_dump_json())
        for site in session.sites:
            own = self.folder / "sites" / site
            shutil.copytree(prepared / "sites" / site, own)
            spec = session._spec(site).model_copy(
                update={
                    "folder": str(own),
                    "plan_file": str(self.folder / "plan.json"),
                    "cases": {site: str(own)},
                }
            )
            (self.folder / f"{site}.json").write_text(spec.model_dump_json())
        return session

    def join(self, *sites: SiteId) -> list[Hospital]:
        hospitals = [
            Hospital(
                name=site,
                identity=IdentityKey.create(self.keys / f"{site}.pem"),
                node=NodeKey.create(self.keys / f"{site}-node.pem"),
            )
            for site in sites
        ]
        state = ServerState.open(self.consortium.folder)
        self.consortium.join(state, *hospitals)
        (self.keys / "ca.pem").write_bytes(state.authority_pem)
        (self.keys / "server.json").write_text(json.dumps(state.key.public.hex))
        state.close()
        return hospitals

    def start_site(self, site: SiteId) -> None:
        words = ["site", str(self.folder), str(self.port), str(self.private_port), "10.0", site]
        party = Party(name=f"site-{site}", words=words, folder=self.folder)
        self.sites.append(party)
        party.start()

    def fedvol(self, *words: str, status: int = 0) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "fedvol", *words, "--json"],
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, done.stderr.decode() + self.server.log.read_text()
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def world(tiny_data: Path, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world", data=tiny_data)
    yield world
    for party in (*world.sites, world.server):
        if party.process is not None and party.process.poll() is None:
            party.kill()


@pytest.mark.full
def test_propose_consent_start_and_receipts(world: World) -> None:
    session = world.prepare()
    expected = session.federated().outcome
    session.engine.close()
    hospitals = world.join(*session.sites)
    world.server.start()
    for site in session.sites:
        world.start_site(site)
    for party in world.sites:
        party.await_event("link.up")

    shown = world.fedvol("run", "propose", "tiny.toml", "--name", "first")
    assert shown["plan"] == session.plan.digest
    refused = world.fedvol("run", "start", "first", status=5)
    assert refused["error"]["code"] == "FV-FED-001"
    with httpx.Client(
        verify=client_context((world.keys / "ca.pem").read_bytes()),
        trust_env=False,
        base_url=f"https://127.0.0.1:{world.port}",
    ) as client:
        path = "/fedvol/v1/consents"
        for one in hospitals:
            body = one.consent("first", session.plan.digest)
            headers = one.call("POST", path, size_bytes=len(body))
            assert client.post(path, content=body, headers=headers).status_code == 200
        world.fedvol("run", "start", "first")
        ended = world.fedvol("run", "watch", "first")
        assert (ended["state"], ended["wanted"], ended["closed"]) == ("finished", "ended", 2)
        assert ended["release"] == expected.release
        assert {one["state"] for one in ended["sites"]} == {"contributed"}

        path = "/fedvol/v1/receipts/first"
        held = client.get(path, headers=hospitals[0].call("GET", path)).json()["receipts"]
    server = IdentityKey.load(world.consortium.folder / "keys" / "identity.pem").public
    receipts = [
        open_body(one.encode(), tag=Tag.RECEIPT, signer=server, where="receipt") for one in held
    ]
    assert [(one["site"], one["round"]) for one in receipts] == [
        (hospitals[0].name, 1),
        (hospitals[0].name, 2),
    ]
    assert all(one["answer"] and one["update"] and one["global"] for one in receipts)
    assert world.server.stop() == 0
