"""The same study over a network as in one process: other processes, TLS, signatures, same bits."""

import json
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from network import Network, Party, until
from network_faults import WRONG_CLOCK
from network_study import (
    Expected,
    audit_of,
    expecting,
    networked,
    recorded,
    require_same,
    session_in,
)
from phases import PHASES, within
from small_disk import small_disk
from tiny import tiny_text

from fedvol.audit import verify_log
from fedvol.config.loading import parse_open_study
from fedvol.federation import RoundState, RunState, SiteState
from fedvol.privacy.contribution import Kind

STUDY = parse_open_study(
    tiny_text(rounds="rounds = 2", strategy='kind = "fedbn"'), where="tiny.toml"
)
_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def expected(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Expected]:
    with expecting(STUDY, data=tiny_data, folder=tmp_path_factory.mktemp("expected")) as expected:
        yield expected


@pytest.fixture(scope="module")
def network(
    expected: Expected, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Network]:
    folder = tmp_path_factory.mktemp("network")
    with networked(expected.session, data=tiny_data, folder=folder) as network:
        yield network


def test_same_weights_over_the_network(expected: Expected, network: Network) -> None:
    network.begin("undisturbed")
    told = network.finish()
    require_same(expected, network, "undisturbed", told)
    assert not told["torch"], "the coordinator loaded torch"
    for site in expected.session.sites:
        # Health, two rounds of training and judging, the norm layers, the test cases.
        kinds = Counter(kinds_in(audit_of(network, site)))
        assert [kinds[one] for one in ("received", "policy", "sent")] == [7, 7, 7]
        assert sum(kinds[one.value] for one in Kind if one is not Kind.REFUSAL) == 7
    assert list((network.server / "exchange" / "up").rglob("*.safetensors")) == []


def kinds_in(log: Path) -> list[str]:
    """What an audit log, which is whole, tells of."""
    verify_log(log)
    return [json.loads(line)["event"]["kind"] for line in log.read_text().splitlines()]


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
    for victim, phase in product(VICTIMS, PHASES)
]
LASTING = ("training", "uploading", "evaluating")
"""Phases that have more moments than their beginning: each is met at one that its seed draws."""
SOMEWHEN = [
    pytest.param(victim, phase, seed, marks=pytest.mark.full)
    for seed, (victim, phase) in enumerate(product(VICTIMS, LASTING), start=1)
]


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


# --- disks that are full ------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("place", ["incoming", "outbox"])
def test_a_site_whose_disk_is_full(network: Network, place: str) -> None:
    """Where weights come in, or where its answer is kept: the others go on, and it says why."""
    run, site = f"site-full-{place}", max(network.sites)
    with small_disk(network.folder / "sites" / site / place, kilobytes=4):
        network.begin(run).wait(600.0)
    _, rounds = recorded(network, run)
    assert [one.state for one in rounds] == [RoundState.CLOSED, RoundState.CLOSED]
    for record in rounds:
        found = {one.site: (one.state, one.code, one.title) for one in record.sites}
        assert found.pop(site) == (SiteState.REFUSED, "FV-STORE-004", "disk full")
        assert {state for state, _, _ in found.values()} == {SiteState.CONTRIBUTED}
    assert "no space left on the disk" in network.sites[site].events("site.refused")[-1]["detail"]


@pytest.mark.full
def test_a_server_without_space_for_what_sites_bring(expected: Expected, network: Network) -> None:
    """The site waits, and goes on where it was."""
    run, folder = "server-full-up", network.server / "exchange" / "up" / network.first
    with small_disk(folder, kilobytes=4) as disk, within(PHASES["training"], network, run, share=0):
        network.coordinator.await_event("site.contributed", count=2)
        until(lambda: list(folder.glob("*.part")), what="the site brings what finds no place")
        disk.resize(10_000)
        require_same(expected, network, run, network.finish())


@pytest.mark.full
def test_a_server_without_space_for_what_it_gives_out(expected: Expected, network: Network) -> None:
    """The run fails with words that say it, and goes on once there is space."""
    run = "server-full-down"
    with small_disk(network.server / "exchange" / "down", kilobytes=4) as disk:
        assert network.begin(run).wait(600.0) == 1
        record, _ = recorded(network, run)
        assert record.state is RunState.FAILED
        assert "FV-STORE-004" in record.reason
        assert "no space left on the disk" in record.reason
        disk.resize(10_000)
        network.begin(run)
        require_same(expected, network, run, network.finish())


# --- sites with a fault: their logs contradict what they sent, so they come last ----------------


@contextmanager
def faulty(network: Network, fault: str) -> Generator[Party]:
    """The last site's process is one with a fault; the site itself is back afterwards."""
    site = max(network.sites)
    party = network.sites[site]
    assert party.stop() == 0
    changed = network.site_of(site, fault=fault)
    event = "link.down" if fault == WRONG_CLOCK else "link.up"
    try:
        started(changed, event)
        yield changed
    finally:
        changed.kill()
        started(party, "link.up")


def started(party: Party, event: str) -> None:
    """Start a party and wait until it tells how it fares."""
    before = len(party.events(event))
    party.start()
    party.await_event(event, count=before + 1)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("not-finite", "holds NaN or infinite values"),
        pytest.param("other-shapes", "has shape (1,) instead of", marks=pytest.mark.full),
    ],
)
def test_an_update_that_cannot_be_summed(network: Network, fault: str, words: str) -> None:
    """The run goes on without it, and the record says why."""
    with faulty(network, fault):
        network.begin(fault)
        network.finish()
    site = max(network.sites)
    run, rounds = recorded(network, fault)
    assert run.state is RunState.FINISHED
    assert [one.state for one in rounds] == [RoundState.CLOSED, RoundState.CLOSED]
    for record in rounds:
        found = {one.site: (one.state, one.code, one.title) for one in record.sites}
        assert found.pop(site) == (SiteState.TRAINED, "FV-FED-002", "contribution invalid")
        assert {state for state, _, _ in found.values()} == {SiteState.CONTRIBUTED}
    told = network.coordinator.events("site.refused")
    assert [(one["site"], one["round"]) for one in told] == [(site, 1), (site, 2)]
    assert all(words in one["detail"] for one in told)


@pytest.mark.full
@pytest.mark.parametrize(
    ("fault", "event", "words"),
    [
        ("other-version", "site.refused", "it runs fedvol 9.9.9, the plan was made by"),
        (WRONG_CLOCK, "site.absent", "not connected"),
    ],
)
def test_a_site_that_cannot_take_part(network: Network, fault: str, event: str, words: str) -> None:
    """The others train; at the end no test figures are given for a part of the sites."""
    with faulty(network, fault) as party:
        assert network.begin(fault).wait(600.0) == 1
    site = max(network.sites)
    run, rounds = recorded(network, fault)
    assert run.state is RunState.FINISHED
    assert [one.state for one in rounds] == [RoundState.CLOSED, RoundState.CLOSED]
    assert all(site not in {one.site for one in record.sites} for record in rounds)
    (told,) = [one for one in network.coordinator.events(event) if one["site"] == site]
    assert words in told.get("detail", "") + told.get("reason", "")
    assert (
        f"no test figures from {site}, which did not answer" in network.coordinator.log.read_text()
    )
    if fault == WRONG_CLOCK:
        assert party.events("link.down")[-1]["code"] == "FV-TRAN-005"


@pytest.mark.full
def test_a_site_that_sends_nothing(tiny_data: Path, tmp_path: Path) -> None:
    limits = "\n[federation]\nmin_sites = 2\ntrain_limit_s = 60.0\nevaluate_limit_s = 60.0\n"
    study = parse_open_study(tiny_text(rounds="rounds = 1", more=limits), where="tiny.toml")
    session, folder = session_in(tmp_path / "here", study, data=tiny_data), tmp_path / "network"
    folder.mkdir()
    with networked(session, data=tiny_data, folder=folder) as network:
        with faulty(network, "nothing"):
            network.begin("nothing").await_event("round.closed")
        assert network.coordinator.wait(600.0) in (0, 1)  # it may be back for its test cases
        (record,) = recorded(network, "nothing")[1]
    session.engine.close()
    found = {one.site: (one.state, one.code, one.title) for one in record.sites}
    assert found.pop(max(network.sites)) == (SiteState.SILENT, "FV-FED-005", "time limit passed")
    assert {state for state, _, _ in found.values()} == {SiteState.CONTRIBUTED}
