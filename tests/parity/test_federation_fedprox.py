"""FedProx with mu = 0 is FedAvg, bit for bit."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from tiny import make_federation, tiny_study

from fedvol.client.cases import SiteCases
from fedvol.types import Digest, SiteId

# Every seed follows from the plan's digest, and the strategy is part of the plan. To compare the
# arithmetic alone, the plans of a pair go by one name; everything else is the product's own path.
NAME = "5" * 64


def release_of(
    strategy: str, cases: Mapping[SiteId, SiteCases], folder: Path
) -> tuple[Digest, list[tuple[float | None, ...]]]:
    study = tiny_study(strategy=strategy, rounds="rounds = 2")
    federation = make_federation(study, cases=cases, folder=folder, digest=NAME)
    outcome, _ = federation.run()
    losses = [tuple(site.loss for site in record.sites) for record in federation.rounds()]
    return outcome.release, losses


@pytest.fixture(scope="module")
def fedavg(
    tiny_cases: Mapping[SiteId, SiteCases], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Digest, list[tuple[float | None, ...]]]:
    return release_of('kind = "fedavg"', tiny_cases, tmp_path_factory.mktemp("fedavg"))


def test_mu_zero_is_fedavg(fedavg, tiny_cases, tmp_path: Path) -> None:
    assert release_of('kind = "fedprox"\nmu = 0.0', tiny_cases, tmp_path) == fedavg


def test_mu_above_zero_is_not(fedavg, tiny_cases, tmp_path: Path) -> None:
    release, losses = release_of('kind = "fedprox"\nmu = 10.0', tiny_cases, tmp_path)
    assert release != fedavg[0]
    assert losses != fedavg[1]
