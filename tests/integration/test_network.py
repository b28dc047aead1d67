"""The same study over a network as in one process: other processes, TLS, signatures, same bits."""

import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from network import Network
from tiny import CPU, Events, tiny_text

from fedvol.config.loading import parse_open_study
from fedvol.privacy import verify_audit
from fedvol.server import Outcome
from fedvol.simulation.output import open_output
from fedvol.simulation.session import Session, open_session
from fedvol.store import RunStore, open_engine
from fedvol.types import RunId

STUDY = parse_open_study(tiny_text(rounds="rounds = 2"), where="tiny.toml")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one process makes of the study."""

    session: Session
    prepared: Path
    outcome: Outcome


@pytest.fixture(scope="module")
def expected(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Expected]:
    prepared = tmp_path_factory.mktemp("prepared")
    open_session(
        STUDY,
        data=tiny_data,
        output=open_output(prepared, resume=False),
        device=CPU,
        observer=Events(),
    )
    out = tmp_path_factory.mktemp("here")
    shutil.copytree(prepared, out, dirs_exist_ok=True)
    session = open_session(
        STUDY,
        data=tiny_data,
        output=open_output(out, resume=True),
        device=CPU,
        observer=Events(),
    )
    yield Expected(session=session, prepared=prepared, outcome=session.federated().outcome)
    session.engine.close()


def network_of(expected: Expected, folder: Path) -> Network:
    """Sites with the same cases, each with a folder of its own."""
    agents = {}
    for site in expected.session.sites:
        own = folder / "sites" / site
        shutil.copytree(expected.prepared / "sites" / site, own)
        spec = expected.session._spec(site)
        plan = folder / "plan.json"
        agents[site] = spec.model_copy(
            update={"folder": str(own), "plan_file": str(plan), "cases": {site: str(own)}}
        )
    return Network(
        folder=folder,
        plan=expected.session.plan,
        initial=expected.session.initial,
        agents=agents,
    )


def require_same(expected: Expected, network: Network, told: dict[str, Any]) -> None:
    assert told["release"] == expected.outcome.release
    assert told["best_round"] == expected.outcome.best_round
    assert told["tests"] == sorted(expected.session.sites)
    store = RunStore(open_engine(network.server / "server.db"))
    run = RunId("federated")
    ours = [(r.index, r.aggregate) for r in store.rounds(run)]
    theirs = [(r.index, r.aggregate) for r in expected.session.store.rounds(run)]
    assert ours == theirs


def test_same_weights_over_the_network(expected: Expected, tmp_path: Path) -> None:
    with network_of(expected, tmp_path) as network:
        network.start()
        told = network.run()
        require_same(expected, network, told)
        assert not told["torch"], "the coordinator loaded torch"
        for party in network.sites.values():
            assert party.stop() == 0
        assert network.engine.stop() == 0
    for site in expected.session.sites:
        # Two rounds of training and judging, the test cases, and health.
        assert verify_audit(tmp_path / "sites" / site / "audit.jsonl").records == 6
    assert list((network.server / "exchange" / "up").rglob("*.safetensors")) == []
