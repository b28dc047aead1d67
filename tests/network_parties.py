"""Processes of `network`: an engine, a coordinator, a site; each from what lies in one folder."""

import json
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from fedvol.telemetry import set_up_logging
from fedvol.types import Json, RunId


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


def engine(folder: Path, stop: threading.Event) -> None:
    """The server's main process without its coordinator."""
    from fedvol.server.agreeing import AgreementDesk, agreement_routes
    from fedvol.server.front_door import FrontDoor
    from fedvol.server.joining import EnrolmentDesk, joining_routes
    from fedvol.server.progress import ProgressDesk, progress_routes
    from fedvol.server.server_state import ServerState
    from fedvol.transport.network.calls import CallGuard

    state = ServerState.open(folder / "server")
    sites, listen = state.registry, state.config.listen
    guard = CallGuard(sites, remembered_in=state.folder.calls)
    door = FrontDoor(
        state.folder,
        sites=sites,
        guard=guard,
        routes=[
            *joining_routes(state.store, EnrolmentDesk(state.store)),
            *agreement_routes(AgreementDesk(state.store, sites=sites), guard),
            *progress_routes(ProgressDesk(state.store, sites=sites), guard),
        ],
    )
    door.set_sites(sites.nodes())
    door.open_private(port=listen.private_port)
    door.open_public(host=listen.host, port=listen.port, certificate=state.certificate)
    Printing().event("listening")
    stop.wait()
    door.close()
    state.close()


def coordinator(folder: Path, run: str) -> None:
    from fedvol.audit import AuditLog
    from fedvol.plan import Plan
    from fedvol.server.conducting import ServerEnd, conduct
    from fedvol.server.server_state import ServerState
    from fedvol.store import StateFile

    with StateFile(folder / "initial.safetensors") as file:
        initial = file.read_all()
    with closing(ServerState.open(folder / "server")) as state:
        done = conduct(
            RunId(run),
            plan=Plan.model_validate_json((folder / "plan.json").read_text()),
            initial=initial,
            folder=state.folder,
            private_port=state.config.listen.private_port,
            end=ServerEnd(key=state.key, sites=state.registry, audit=AuditLog(state.folder.audit)),
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


def site(folder: Path, name: str, fault: str, stop: threading.Event) -> None:
    from network_faults import serve_faulty

    from fedvol.client.hospital import serve_hospital
    from fedvol.site import SiteFolder

    held = SiteFolder(folder=folder / "sites" / name)
    if fault:
        serve_faulty(fault, held, observer=Printing(), stop=stop)
    else:
        serve_hospital(held, observer=Printing(), stop=stop)


def main(words: list[str]) -> None:
    set_up_logging(sys.stderr)
    kind, folder = words[0], Path(words[1])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    match kind:
        case "engine":
            engine(folder, stop)
        case "coordinator":
            coordinator(folder, words[2])
        case _:
            site(folder, words[2], "".join(words[3:]), stop)


if __name__ == "__main__":
    main(sys.argv[1:])
