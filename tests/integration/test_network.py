"""The same study over a network as in one process: other processes, TLS, signatures, same bits."""

import logging
import os
import shutil
import signal
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from network import Network
from phases import PHASES, within
from tiny import CPU, Events, tiny_text

from fedvol.audit import compare_logs, verify_log
from fedvol.config.loading import parse_open_study
from fedvol.server import Outcome
from fedvol.simulation.output import open_output
from fedvol.simulation.session import FEDERATED, Session, open_session
from fedvol.store import RunStore, open_engine
from fedvol.types import RunId, SiteId

STUDY = parse_open_study(
    tiny_text(rounds="rounds = 2", strategy='kind = "fedbn"'), where="tiny.toml"
)
_log = logging.getLogger(__name__)


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


@pytest.fixture(scope="module")
def network(expected: Expected, tmp_path_factory: pytest.TempPathFactory) -> Generator[Network]:
    """Sites with the same cases, each with a folder of its own."""
    folder = tmp_path_factory.mktemp("network")
    agents = {}
    for site in expected.session.sites:
        own = folder / "sites" / site
        shutil.copytree(expected.prepared / "sites" / site, own)
        spec = expected.session._spec(site)
        plan = folder / "plan.json"
        agents[site] = spec.model_copy(
            update={"folder": str(own), "plan_file": str(plan), "cases": {site: str(own)}}
        )
    with Network(
        folder=folder,
        plan=expected.session.plan,
        initial=expected.session.initial,
        agents=agents,
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
    for site in expected.session.sites:
        compared = compare_logs(audit_of(network, site), network.server / "audit.jsonl")
        assert compared.num_contradictions == 0, compared.as_json()


def audit_of(network: Network, site: SiteId) -> Path:
    """A site's audit log, which tells of every run over this network."""
    return network.folder / "sites" / site / "audit.jsonl"


def test_same_weights_over_the_network(expected: Expected, network: Network) -> None:
    network.begin("undisturbed")
    told = network.finish()
    require_same(expected, network, "undisturbed", told)
    assert not told["torch"], "the coordinator loaded torch"
    for site in expected.session.sites:
        # Health, two rounds of training and judging, the norm layers, the test cases.
        log = verify_log(audit_of(network, site))
        assert log.records == 7 * len(("received", "contribution", "sent"))
    assert list((network.server / "exchange" / "up").rglob("*.safetensors")) == []


VICTIMS = (SITE, WORKER, COORDINATOR, ENGINE) = ("site", "worker", "coordinator", "engine")
IN_CI = {
    (WORKER, "training"),
    (WORKER, "evaluating"),
    (SITE, "training"),
    (SITE, "uploading"),
    (COORDINATOR, "training"),
    (COORDINATOR, "closing"),
    (ENGINE, "training"),
    (ENGINE, "closing"),
}
AT_ONCE = [
    pytest.param(victim, phase, 0, marks=[] if (victim, phase) in IN_CI else pytest.mark.full)
    for victim in VICTIMS
    for phase in PHASES
]
SOMEWHEN = [
    pytest.param(victim, phase, seed, marks=pytest.mark.full)
    for victim in VICTIMS
    for phase in ("training", "uploading", "evaluating")
    for seed in (1, 2)
]
"""Phases that last have more moments than their beginning."""


@pytest.mark.parametrize(("victim", "phase", "seed"), [*AT_ONCE, *SOMEWHEN])
def test_killed(expected: Expected, network: Network, victim: str, phase: str, seed: int) -> None:
    """Whoever is killed, and when: the same weights, and no round is played twice."""
    run = f"{victim}-{phase}-{seed}"
    share = float(np.random.default_rng(seed).random()) if seed else 0.0
    _log.warning("seed %d: after %.3f of %s", seed, share, phase)
    with within(PHASES[phase], network, run, share=share):
        kill(network, victim)
    require_same(expected, network, run, network.finish())
    closed = [event["round"] for event in network.coordinator.events("round.closed")]
    assert sorted(set(closed)) == closed, "a closed round was played again"


def kill(network: Network, victim: str) -> None:
    """Kill a process, the first site's where it is a site's, and start it again."""
    site = network.sites[network.first]
    if victim == WORKER:
        os.kill(site.events("worker.started")[-1]["process"], signal.SIGKILL)
        return
    party = {SITE: site, COORDINATOR: network.coordinator, ENGINE: network.engine}[victim]
    party.kill()
    if victim == COORDINATOR:
        network.go_on()  # the next one is not held
    party.start()


@pytest.mark.parametrize(
    "seconds",
    [3.0, pytest.param(600.0, marks=[pytest.mark.full, pytest.mark.timeout(1800)])],
)
def test_a_wire_that_is_cut_in_a_round(
    expected: Expected, network: Network, seconds: float
) -> None:
    """No byte passes for so long, and nobody is told: the round completes when the wire is back."""
    run = f"cut-{seconds:.0f}"
    with within(PHASES["training"], network, run, share=0.0):
        network.wire.cut()
        time.sleep(seconds)
        assert network.coordinator.events("round.closed") == []
        network.wire.mend()
    require_same(expected, network, run, network.finish())
