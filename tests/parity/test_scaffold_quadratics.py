"""SCAFFOLD on quadratics: several local steps no longer bias the optimum, and c stays the mean."""

from pathlib import Path

import numpy as np
import pytest
from quadratics import SITES, QuadraticSites, Server, make_plan, optimum, play

from fedvol.errors import CheckpointError
from fedvol.federation import Request, SiteState
from fedvol.types import SiteId

ROUNDS, STEPS = 30, 10


def distance(server: Server) -> float:
    return float(np.abs(server.last()["w"] - optimum()).max())


def mean_control(server: Server, sites: QuadraticSites) -> np.ndarray:
    """The weighted mean of the sites' control variates that the server took."""
    taken = dict.fromkeys(SITES, 0)
    for record in server.rounds():
        for one in record.sites:
            if one.state is SiteState.CONTRIBUTED:
                taken[one.site] = record.index
    parts = [
        cases * sites.control(site, round_index=taken[site])
        for site, (cases, _, _) in SITES.items()
    ]
    return sum(parts) / sum(cases for cases, _, _ in SITES.values())


def sometimes_silent(request: Request) -> bool:
    """Each site misses every third round; two of three take part."""
    return (request.round + sorted(SITES).index(request.site)) % 3 != 0


def test_fedavg_has_a_bias_and_scaffold_finds_the_optimum(tmp_path: Path) -> None:
    fedavg, _ = play(make_plan('kind = "fedavg"', rounds=ROUNDS, steps=STEPS), tmp_path / "1")
    scaffold, _ = play(make_plan('kind = "scaffold"', rounds=ROUNDS, steps=STEPS), tmp_path / "2")
    assert distance(fedavg) > 0.2
    assert distance(scaffold) < 1e-4


def test_one_local_step_needs_no_control(tmp_path: Path) -> None:
    fedavg, _ = play(make_plan('kind = "fedavg"', rounds=40, steps=1), tmp_path)
    assert distance(fedavg) < 1e-3


@pytest.mark.parametrize("way", ["answers", "arrives"])
def test_silent_sites_do_not_bring_the_bias_back(way: str, tmp_path: Path) -> None:
    """Whether a site slept, or worked and its reply was lost: it keeps what the server took."""
    plan = make_plan('kind = "scaffold"', rounds=ROUNDS, steps=STEPS)
    server, sites = play(plan, tmp_path, **{way: sometimes_silent})
    assert {one.state for r in server.rounds() for one in r.sites} == {
        SiteState.CONTRIBUTED,
        SiteState.SILENT,
    }
    assert distance(server) < 1e-3
    np.testing.assert_allclose(
        server.last()["control|w"], mean_control(server, sites), rtol=0, atol=1e-6
    )


def test_at_the_optimum_c_is_zero_and_each_c_i_the_sites_gradient_there(tmp_path: Path) -> None:
    plan = make_plan('kind = "scaffold"', rounds=ROUNDS, steps=STEPS)
    server, sites = play(plan, tmp_path)
    np.testing.assert_allclose(server.last()["control|w"], 0.0, atol=1e-5)
    for site, (_, h, a) in SITES.items():
        gradient = h @ (optimum() - a)
        np.testing.assert_allclose(sites.control(site, round_index=ROUNDS), gradient, atol=1e-3)


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_c_is_the_weighted_mean_of_all_sites_after_any_round(rounds: int, tmp_path: Path) -> None:
    plan = make_plan('kind = "scaffold"', rounds=rounds, steps=STEPS)
    server, sites = play(plan, tmp_path, answers=sometimes_silent)
    control = server.last()["control|w"]
    np.testing.assert_allclose(control, mean_control(server, sites), rtol=0, atol=1e-6)
    assert np.abs(control).max() > 1e-3


def test_an_abandoned_round_counts_for_nobody(tmp_path: Path) -> None:
    """Two sites worked on round 2 and kept it; the round was played again from the start."""
    plan = make_plan('kind = "scaffold"', rounds=4, steps=STEPS, min_sites=3)
    whole, _ = play(plan, tmp_path / "whole")
    lost: list[SiteId] = []

    def once_lost(request: Request) -> bool:
        if request.round != 2 or request.site != "c" or lost:
            return True
        lost.append(request.site)
        return False

    server, sites = play(plan, tmp_path / "again", arrives=once_lost)
    assert [r.attempt for r in server.rounds()] == [1, 1, 2, 1, 1]
    for name, tensor in whole.last().items():
        np.testing.assert_array_equal(server.last()[name], tensor)
    assert sites.told[3, SiteId("c")] == {"control_round": 2}


def test_a_site_that_joins_later_counts_from_then_on(tmp_path: Path) -> None:
    """The first rounds knew two sites; with the third, c becomes the mean over three."""
    plan = make_plan('kind = "scaffold"', rounds=6, steps=STEPS, min_sites=2)
    server = Server(plan=plan, folder=tmp_path / "server")
    few = QuadraticSites(
        plan=plan, folder=tmp_path / "sites", present=tuple(sorted(SITES))[:2],
        arrives=lambda request: request.round < 4,
    )  # fmt: skip
    with pytest.raises(InterruptedError):
        server.conduct(Ending(few, at=4))
    everyone = QuadraticSites(plan=plan, folder=tmp_path / "sites")
    server.conduct(everyone)
    known = [record.known_weight for record in server.rounds()]
    assert known == [4.0] * 3 + [6.0] * 3
    np.testing.assert_allclose(
        server.last()["control|w"], mean_control(server, everyone), rtol=0, atol=1e-6
    )


class Ending:
    """A link whose user goes away when some round begins."""

    def __init__(self, link: QuadraticSites, *, at: int) -> None:
        self._link, self._at = link, at

    def sites(self):
        return self._link.sites()

    def ask(self, requests):
        if requests and requests[0].round == self._at:
            raise InterruptedError
        return self._link.ask(requests)


def test_a_site_that_lost_its_variate_does_not_invent_one(tmp_path: Path) -> None:
    plan = make_plan('kind = "scaffold"', rounds=3, steps=STEPS)

    def lose(request: Request) -> bool:
        if (request.round, request.site) == (3, "b"):
            for path in (tmp_path / "sites" / "b").rglob("control-*"):
                path.unlink()
        return True

    with pytest.raises(CheckpointError, match="counts on this control variate"):
        play(plan, tmp_path, answers=lose)


def test_a_site_keeps_two_variates_at_most(tmp_path: Path) -> None:
    plan = make_plan('kind = "scaffold"', rounds=9, steps=2)
    play(plan, tmp_path, arrives=sometimes_silent)
    for site in SITES:
        assert len(list((tmp_path / "sites" / site).rglob("control-*"))) <= 2
