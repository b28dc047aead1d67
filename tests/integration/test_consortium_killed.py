"""A consortium of which a process is killed before a round begins: the weights of the undisturbed.

The later phases are `test_network.test_killed`'s.
"""

import json
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from network import free_port
from tiny import make_hospitals, tiny_text
from typed import (
    SITES,
    Serving,
    Typed,
    TypedHere,
    approve,
    checkpoints,
    is_open,
    join,
    start,
    until,
)

from fedvol.store import RunStore, open_engine
from fedvol.types import RunId

SERVER, COORDINATOR, AGENT, WORKER = "server", "coordinator", "agent", "worker"
PROPOSED, CONFIGURED = "proposed", "configured"


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_killed_while_it_is_proposed_and_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fedvol: Callable[..., Any]
) -> None:
    make_hospitals(tmp_path / "volumes", num_sites=2)
    text = tiny_text(rounds="rounds = 2", more="\n[federation]\nmin_sites = 2\n")
    (tmp_path / "study.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    typed, private = TypedHere(tmp_path, fedvol), free_port()
    typed("simulate", "study.toml", "--data", "volumes", "--out", "alone", "--device", "cpu")
    expected = checkpoints(tmp_path / "alone" / "run.db", "federated")
    database = tmp_path / "server" / "server.db"
    with ExitStack() as stack:
        serving = join(typed, stack, private=private)
        for victim, phase in product((SERVER, COORDINATOR, AGENT, WORKER), (PROPOSED, CONFIGURED)):
            run = f"{victim}-{phase}"
            typed("run", "propose", "study.toml", "--name", run)
            approve(typed, SITES[1], run)
            if phase == PROPOSED:
                kill(typed, serving, victim, private=private)
            approve(typed, SITES[0], run)
            start(typed, run)
            if phase == CONFIGURED:
                folder = tmp_path / "server"
                until(lambda run=run, folder=folder: is_configured(folder, run), every_s=0.05)
                kill(typed, serving, victim, private=private)
            until(lambda run=run: typed("run", "show", run)["state"] == "finished")
            assert checkpoints(database, run) == expected, run
            assert attempts(database, run) == [(1, 1), (2, 1)], run
    for folder in ("server", *SITES):
        typed("audit", "verify", tmp_path / folder / "audit.jsonl")


def kill(typed: Typed, serving: dict[str, Serving], victim: str, *, private: int) -> None:
    """Kill a process, the first site's where it is a site's; it is started again at once."""
    match victim:
        case "coordinator":
            os.kill(typed("server", "status")["coordinator"], signal.SIGKILL)
        case "worker":
            started = [
                one for one in told(typed.folder / SITES[0]) if one["event"] == "worker.started"
            ]
            os.kill(started[-1]["process"], signal.SIGKILL)
        case "agent":
            serving[SITES[0]].kill()
        case _:
            serving["server"].kill()
            until(lambda: is_open(private))


def told(folder: Path) -> list[dict[str, Any]]:
    """What somebody with a folder told; a process that is killed may leave half a line."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def is_configured(server: Path, run: str) -> bool:
    """Whether a run's sites said how they are, so that its first round is to be played."""
    return any((one["event"], one.get("name")) == ("run.started", run) for one in told(server))


def attempts(database: Path, run: str) -> list[tuple[int, int]]:
    """Every attempt at a round that is recorded."""
    with closing(RunStore(open_engine(database))) as store:
        return [(one.index, one.attempt) for one in store.rounds(RunId(run))]
