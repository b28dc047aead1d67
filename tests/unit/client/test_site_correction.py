"""Which pull a site applies, and which requests it refuses."""

import pytest

from fedvol.client.site_correction import proximal_mu
from fedvol.config.strategy import AdaptiveFedProx, FedAvg, FedProx
from fedvol.errors import PlanMismatchError
from fedvol.federation import Action, Request
from fedvol.types import Digest, RunId, SiteId


def asked(**arguments) -> Request:
    return Request(
        run=RunId("r"),
        plan=Digest("0" * 64),
        stage=0,
        round=4,
        site=SiteId("a"),
        action=Action.FINETUNE,
        state={},
        arguments=arguments,
        limit_s=1.0,
    )


def test_the_studys_mu_or_the_rounds() -> None:
    assert proximal_mu(FedAvg(kind="fedavg"), asked()) == 0
    assert proximal_mu(FedProx(kind="fedprox", mu=0.3), asked()) == 0.3
    assert proximal_mu(AdaptiveFedProx(kind="adaptive_fedprox", mu=0.3), asked(mu=0.7)) == 0.7


@pytest.mark.parametrize(
    ("strategy", "arguments", "named"),
    [
        (FedProx(kind="fedprox"), {"mu": 5.0}, "brings a mu of its own"),
        (AdaptiveFedProx(kind="adaptive_fedprox"), {}, "has no mu"),
        (AdaptiveFedProx(kind="adaptive_fedprox"), {"mu": -1.0}, "follow the schema"),
        (AdaptiveFedProx(kind="adaptive_fedprox"), {"mu": float("nan")}, "follow the schema"),
        (FedAvg(kind="fedavg"), {"surprise": 1}, "follow the schema"),
    ],
)
def test_anything_else_is_refused(strategy, arguments, named: str) -> None:
    with pytest.raises(PlanMismatchError, match=named):
        proximal_mu(strategy, asked(**arguments))
