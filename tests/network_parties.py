"""Processes of `network`: an engine, a coordinator, a site; each from what lies in one folder."""

import json
import signal
import sys
import threading
import time
from pathlib import Path

from fedvol.identity import IdentityKey, NodeKey, NodePublicKey, PublicKey
from fedvol.telemetry import set_up_logging
from fedvol.types import Json, RunId, SiteId

HOST = "127.0.0.1"


class Printing:
    """Tells everything; stands still once it told what the file `hold` names, while it is there."""

    def __init__(self, hold: Path | None = None) -> None:
        self._hold = hold
        held = json.loads(hold.read_text()) if hold and hold.exists() else ["", 0]
        self._held_at, self._left = str(held[0]), int(held[1])

    def event(self, name: str, /, **fields: Json) -> None:
        sys.stdout.write(json.dumps({"event": name, **fields}) + "\n")
        sys.stdout.flush()
        if name != self._held_at or self._hold is None:
            return
        self._left -= 1
        while self._left == 0 and self._hold.exists():
            time.sleep(0.02)


class Keys:
    def __init__(self, folder: Path) -> None:
        self.sites = json.loads((folder / "keys" / "sites.json").read_text())

    def identity(self, site: SiteId) -> PublicKey | None:
        found = self.sites.get(site)
        return PublicKey(found["identity"]) if found else None

    def nodes(self) -> dict[SiteId, NodePublicKey]:
        return {SiteId(site): NodePublicKey(one["node"]) for site, one in self.sites.items()}


def engine(folder: Path, public: int, private: int, stop: threading.Event) -> None:
    from fedvol.server.front_door import FrontDoor, ServerFolder
    from fedvol.transport.network.listeners import Certificate

    server = folder / "server"
    server.mkdir(exist_ok=True)
    keys = Keys(folder)
    door = FrontDoor(ServerFolder(folder=server), sites=keys)
    door.set_sites(keys.nodes())
    tls = folder / "keys" / "server-tls.pem"
    door.open_private(port=private)
    door.open_public(host=HOST, port=public, certificate=Certificate(chain=tls, key=tls))
    Printing().event("listening")
    stop.wait()
    door.close()


def coordinator(folder: Path, private: int, run: str) -> None:
    from fedvol.audit import AuditLog
    from fedvol.plan import Plan
    from fedvol.server.conducting import ServerEnd, conduct
    from fedvol.server.front_door import ServerFolder
    from fedvol.store import StateFile

    with StateFile(folder / "initial.safetensors") as file:
        initial = file.read_all()
    done = conduct(
        RunId(run),
        plan=Plan.model_validate_json((folder / "plan.json").read_text()),
        initial=initial,
        folder=ServerFolder(folder=folder / "server"),
        private_port=private,
        end=ServerEnd(
            key=IdentityKey.load(folder / "keys" / "server.pem"),
            sites=Keys(folder),
            audit=AuditLog(folder / "server" / "audit.jsonl"),
        ),
        observer=Printing(folder / "hold.json"),
        poll_s=0.1,
    )
    Printing().event(
        "conducted",
        release=done.outcome.release,
        best_round=done.outcome.best_round,
        tests=sorted(done.tests),
        torch="torch" in sys.modules,
    )


def site(
    folder: Path, public: int, heartbeat_s: float, name: str, fault: str, stop: threading.Event
) -> None:
    from fedvol.client import AgentSpec
    from fedvol.client.site_app import SiteAppSpec
    from fedvol.client.site_service import serve_site
    from fedvol.transport.network.fleet_node import NodeTiming

    keys = folder / "keys"
    spec = SiteAppSpec(
        agent=AgentSpec.model_validate_json((folder / f"{name}.json").read_text()),
        address=f"{HOST}:{public}",
        authority_file=str(keys / "ca.pem"),
        identity_file=str(keys / f"{name}.pem"),
        server=PublicKey(json.loads((keys / "server.json").read_text())),
        device="cpu",
    )
    node_key = NodeKey.load(keys / f"{name}-node.pem")
    timing = NodeTiming(heartbeat_s=heartbeat_s, poll_s=0.1, retry_s=0.2, max_retry_s=2.0)
    if fault:
        from network_faults import serve_faulty

        serve_faulty(fault, spec, node_key=node_key, timing=timing, observer=Printing(), stop=stop)
    else:
        serve_site(spec, node_key=node_key, timing=timing, observer=Printing(), stop=stop)


def main(words: list[str]) -> None:
    set_up_logging(sys.stderr)
    kind, folder = words[0], Path(words[1])
    public, private, heartbeat_s = int(words[2]), int(words[3]), float(words[4])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    match kind:
        case "engine":
            engine(folder, public, private, stop)
        case "coordinator":
            coordinator(folder, private, words[5])
        case _:
            site(folder, public, heartbeat_s, words[5], "".join(words[6:]), stop)


if __name__ == "__main__":
    main(sys.argv[1:])
