"""What stayed at the sites, averaged once at the end of a stage for sites that have none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedvol.errors import ContributionError, QuorumError
from fedvol.federation import Action, HealthReport, Link, Request, average, check_norms
from fedvol.plan import Plan, TensorSpec
from fedvol.telemetry import Observer
from fedvol.types import RunId, SiteId, State


def mean_norms(
    link: Link,
    *,
    run: RunId,
    plan: Plan,
    stage: int,
    round: int,  # noqa: A002  # the field's word
    local: Sequence[TensorSpec],
    health: Mapping[SiteId, HealthReport],
    observer: Observer,
) -> State:
    """The mean of the sites' local tensors, weighted by training cases.

    Args:
        link: To the sites.
        run: The run.
        plan: Its plan.
        stage: The stage that ended.
        round: The round that is released.
        local: The tensors that stayed at the sites.
        health: Who is asked, and how many cases each trained on.
        observer: Hears of sites that did not answer.

    Raises:
        QuorumError: Fewer sites returned theirs than the study's minimum.
    """
    requests = {
        site: Request(
            run=run,
            plan=plan.digest,
            stage=stage,
            round=round,
            site=site,
            action=Action.NORMS,
            state={},
            arguments={},
            limit_s=plan.study.federation.evaluate_limit_s,
        )
        for site in health
        if health[site].training_cases
    }
    held: dict[SiteId, State] = {}
    for reply in link.ask(list(requests.values())):
        if reply.site not in requests:
            continue
        code, title = reply.code, reply.title
        if not code:
            try:
                held[reply.site] = check_norms(reply, request=requests[reply.site], local=local)
                continue
            except ContributionError as error:
                code, title = error.code, error.title
        observer.event("site.refused", site=reply.site, round=round, code=code, title=title)
    if len(held) < plan.study.federation.min_sites:
        raise QuorumError(
            f"run {run}",
            f"{len(held)} sites returned their norm layers",
            "Look at the sites' logs and resume the run.",
        )
    observer.event(
        "norms.averaged", run=run, round=round, sites=[str(site) for site in sorted(held)]
    )
    parts = [(float(health[site].training_cases), _Arrays(held[site])) for site in sorted(held)]
    return {name: mean.astype(np.float32) for name, mean in average(parts, specs=local)}


@dataclass(frozen=True, slots=True)
class _Arrays:
    """Arrays in memory, read like a file."""

    state: State

    def read(self, name: str) -> NDArray[np.generic]:
        """One array."""
        return self.state[name]
