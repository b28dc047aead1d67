"""Processes of `network`: an engine, a coordinator, a site; each from what lies in one folder."""

import json
import signal
import sys
import threading
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fedvol.identity import IdentityKey, NodePublicKey, PublicKey
from fedvol.telemetry import set_up_logging
from fedvol.types import Json, RunId, SiteId

HOST = "127.0.0.1"


class Printing:
    def event(self, name: str, /, **fields: Json) -> None:
        sys.stdout.write(json.dumps({"event": name, **fields}) + "\n")
        sys.stdout.flush()


class Keys:
    def __init__(self, folder: Path) -> None:
        self.sites = json.loads((folder / "keys" / "sites.json").read_text())

    def identity(self, site: SiteId) -> PublicKey | None:
        found = self.sites.get(site)
        return PublicKey(found["identity"]) if found else None

    def nodes(self) -> dict[SiteId, NodePublicKey]:
        return {SiteId(site): NodePublicKey(one["node"]) for site, one in self.sites.items()}


def routes(folder: Path) -> list[Route]:
    """What sites ask beside their work: roster, proposals, and a word on their answers."""

    async def roster(_: Request) -> Response:
        return Response((folder / "roster.json").read_bytes())

    async def proposals(_: Request) -> Response:
        return Response((folder / "proposals.json").read_bytes())

    async def consents(_: Request) -> Response:
        return JSONResponse({"status": "recorded"})

    return [
        Route("/fedvol/v1/roster", roster),
        Route("/fedvol/v1/proposals", proposals),
        Route("/fedvol/v1/consents", consents, methods=["POST"]),
    ]


def engine(folder: Path, public: int, private: int, stop: threading.Event) -> None:
    from fedvol.server.front_door import FrontDoor, ServerFolder
    from fedvol.transport.network.listeners import Certificate

    server = folder / "server"
    server.mkdir(exist_ok=True)
    keys = Keys(folder)
    door = FrontDoor(ServerFolder(folder=server), sites=keys, routes=routes(folder))
    door.set_sites(keys.nodes())
    tls = folder / "trust" / "tls.pem"
    door.open_private(port=private)
    door.open_public(host=HOST, port=public, certificate=Certificate(chain=tls, key=tls))
    Printing().event("listening")
    stop.wait()
    door.close()


def coordinator(folder: Path, private: int, run: str) -> None:
    from fedvol.plan import Plan
    from fedvol.server.conducting import conduct
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
        key=IdentityKey.load(folder / "keys" / "server.pem"),
        sites=Keys(folder),
        observer=Printing(),
        poll_s=0.1,
    )
    Printing().event(
        "conducted",
        release=done.outcome.release,
        best_round=done.outcome.best_round,
        tests=sorted(done.tests),
        torch="torch" in sys.modules,
    )


def site(folder: Path, name: str, stop: threading.Event) -> None:
    from fedvol.client.hospital import serve_hospital
    from fedvol.site import SiteFolder

    serve_hospital(SiteFolder(folder=folder / "sites" / name), observer=Printing(), stop=stop)


def main(words: list[str]) -> None:
    set_up_logging(sys.stderr)
    kind, folder = words[0], Path(words[1])
    public, private, name = int(words[2]), int(words[3]), words[4]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    match kind:
        case "engine":
            engine(folder, public, private, stop)
        case "coordinator":
            coordinator(folder, private, name)
        case _:
            site(folder, name, stop)


if __name__ == "__main__":
    main(sys.argv[1:])
