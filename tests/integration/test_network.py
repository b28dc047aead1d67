"""The same study over a network as in one process: other processes, TLS, signatures, same bits."""

import json
import os
import signal
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from network import Network
from tiny import CPU, Events, tiny_text

from fedvol.audit import verify_log
from fedvol.config.loading import parse_open_study
from fedvol.server import Outcome
from fedvol.simulation.output import open_output
from fedvol.simulation.session import FEDERATED, Session, open_session
from fedvol.store import RunStore, open_engine
from fedvol.types import RunId

STUDY = parse_open_study(
    tiny_text(rounds="rounds = 2", strategy='kind = "fedbn"'), where="tiny.toml"
)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one process makes of the study."""

    session: Session
    outcome: Outcome


@pytest.fixture(scope="module")
def expected(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Expected]:
    session = open_session(
        STUDY,
        data=tiny_data,
        output=open_output(tmp_path_factory.mktemp("here"), resume=False),
        device=CPU,
        observer=Events(),
    )
    yield Expected(session=session, outcome=session.federated().outcome)
    session.engine.close()


@pytest.fixture(scope="module")
def network(
    expected: Expected, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Network]:
    """Hospitals with the same volumes, each with a folder of its own."""
    with Network(
        folder=tmp_path_factory.mktemp("network"),
        plan=expected.session.plan,
        initial=expected.session.initial,
        data={site: tiny_data / site for site in expected.session.sites},
    ) as network:
        network.start()
        yield network


def require_same(expected: Expected, network: Network, run: str, told: dict[str, Any]) -> None:
    """The weights of every round, and the release, are those of one process."""
    assert told["release"] == expected.outcome.release
    assert told["best_round"] == expected.outcome.best_round
    assert told["tests"] == sorted(expected.session.sites)
    engine = open_engine(network.server / "server.db")
    ours = [(r.index, r.attempt, r.aggregate) for r in RunStore(engine).rounds(RunId(run))]
    engine.dispose()
    records = expected.session.store.rounds(FEDERATED)
    assert ours == [(r.index, r.attempt, r.aggregate) for r in records]


def test_same_weights_over_the_network(expected: Expected, network: Network) -> None:
    network.begin("undisturbed")
    told = network.finish()
    require_same(expected, network, "undisturbed", told)
    assert not told["torch"], "the coordinator loaded torch"
    for held in network.hospitals.values():
        verify_log(held.audit_file, keys=[held.identity().public.hex])
        lines = [json.loads(line)["event"] for line in held.audit_file.read_text().splitlines()]
        left = [one["kind"] for one in lines if "recipient" in one]
        assert left == ["health", *["update", "evaluation"] * 2, "norms", "evaluation"]
    assert list((network.server / "exchange" / "up").rglob("*.safetensors")) == []


SITE, WORKER, COORDINATOR, ENGINE = "site", "worker", "coordinator", "engine"
KILLS = [
    (WORKER, SITE, "site.training"),
    (WORKER, SITE, "site.evaluating"),
    (SITE, SITE, "site.training"),
    (SITE, COORDINATOR, "site.contributed"),
    (COORDINATOR, SITE, "site.training"),
    (COORDINATOR, COORDINATOR, "round.closed"),
    (ENGINE, SITE, "site.training"),
    (ENGINE, COORDINATOR, "round.closed"),
    pytest.param(SITE, SITE, "site.evaluating", marks=pytest.mark.full),
    pytest.param(COORDINATOR, COORDINATOR, "site.contributed", marks=pytest.mark.full),
    pytest.param(ENGINE, SITE, "site.evaluating", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("victim", "watched", "moment"), KILLS)
def test_killed(
    expected: Expected, network: Network, victim: str, watched: str, moment: str
) -> None:
    """Whoever is killed, and when: the same weights, and no round is played twice."""
    run = f"{victim}-{watched}-{moment}"
    site = network.sites[min(network.sites)]
    heard = len(site.events(moment))
    coordinator = network.begin(run)
    if watched == SITE:
        site.await_event(moment, count=heard + 1)
    else:
        coordinator.await_event(moment)
    if victim == WORKER:
        os.kill(site.events("worker.started")[-1]["process"], signal.SIGKILL)
    else:
        party = {SITE: site, COORDINATOR: coordinator, ENGINE: network.engine}[victim]
        party.kill()
        party.start()
    require_same(expected, network, run, network.finish())
