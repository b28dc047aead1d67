"""What stayed at the sites, averaged once at the end of a stage for sites that have none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedvol.errors import QuorumError
from fedvol.federation import Action, HealthReport, Link, Reply, Request, average, check_norms
from fedvol.plan import TensorSpec
from fedvol.server.asking import Missing, ask_each
from fedvol.server.stage_run import StageRun
from fedvol.types import SiteId, State


def mean_norms(
    stage: StageRun,
    link: Link,
    *,
    round_index: int,
    local: Sequence[TensorSpec],
    health: Mapping[SiteId, HealthReport],
) -> State:
    """The mean of the sites' local tensors, weighted as their updates are.

    Args:
        stage: The stage that ended.
        link: To the sites.
        round_index: The round that is released.
        local: The tensors that stayed at the sites.
        health: Who is asked, and how many cases each trained on.

    Raises:
        QuorumError: Fewer sites returned theirs than the study's minimum.
    """
    assert stage.strategy is not None
    weights = {
        site: stage.strategy.weight(cases=report.training_cases)
        for site, report in health.items()
        if report.training_cases
    }
    requests = [
        stage.request(
            site,
            Action.NORMS,
            round_index=round_index,
            state={},
            arguments={},
            limit_s=stage.plan.study.federation.evaluate_limit_s,
        )
        for site in weights
    ]

    def check(reply: Reply, request: Request) -> State:
        # Into memory: a reply's tensors are gone once the next one is taken.
        return dict(check_norms(reply, request=request, local=local))

    held: dict[SiteId, State] = {}
    for request, found in ask_each(link, requests, check=check):
        if isinstance(found, Missing):
            found.tell(stage.observer, request=request)
        else:
            held[request.site] = found
    if len(held) < stage.plan.study.federation.min_sites:
        raise QuorumError(
            f"run {stage.run}",
            f"{len(held)} sites returned their norm layers",
            "Look at the sites' logs and resume the run.",
        )
    stage.observer.event(
        "norms.averaged",
        run=stage.run,
        round=round_index,
        sites=[str(site) for site in sorted(held)],
    )
    parts = [(weights[site], _Arrays(held[site])) for site in sorted(held)]
    return {name: mean.astype(np.float32) for name, mean in average(parts, specs=local)}


@dataclass(frozen=True, slots=True)
class _Arrays:
    """Arrays in memory, read like a file."""

    state: State

    def read(self, name: str) -> NDArray[np.generic]:
        """One array."""
        return self.state[name]
