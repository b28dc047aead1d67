"""What a round costs beside the sites' own training and judging, over the in-process link."""

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measurement import Measurement, Size
from benchmarks.phantom_study import phantom_study
from fedvol.client.agent import SiteAgent
from fedvol.data.phantom import default_hospitals, generate_hospitals
from fedvol.federation import Action, Link, Request, RoundState
from fedvol.privacy import Contribution
from fedvol.server import Coordinator, SystemClock
from fedvol.simulation.output import open_output
from fedvol.simulation.session import FEDERATED, open_session
from fedvol.telemetry import Broadcast
from fedvol.transport import make_client_app, make_server_app, run_in_process
from fedvol.types import Json, SiteId

_ROUND_S = 60.0
"""Length of an ordinary round, for which the share is told as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    sites: int
    cases: int
    rounds: int
    steps: int
    features: tuple[int, ...]


_CASES: dict[Size, _Case] = {
    "tiny": _Case(sites=2, cases=6, rounds=2, steps=1, features=(4, 8)),
    "default": _Case(sites=3, cases=6, rounds=4, steps=20, features=(16, 32, 64)),
    "large": _Case(sites=4, cases=12, rounds=4, steps=60, features=(32, 64, 128, 256)),
}


class _Watched:
    """Hands requests to the agents and adds up what the sites say they worked, per round."""

    def __init__(self, agents: dict[SiteId, SiteAgent]) -> None:
        self._agents = agents
        self.seconds: dict[int, float] = defaultdict(float)

    def handle(self, site: SiteId, request: Request) -> Contribution:
        contribution = self._agents[site].handle(request)
        match request.action:
            case Action.FINETUNE:
                self.seconds[request.round] += _seconds(contribution.values, "train_seconds")
            case Action.VALIDATE:
                self.seconds[request.round] += _seconds(contribution.values, "evaluate_seconds")
            case _:
                pass
        return contribution


def measure(size: Size) -> Measurement:
    """What is not the sites' work in a round, median after the first, as a share of a minute."""
    case = _CASES[size]
    with tempfile.TemporaryDirectory() as folder:
        rounds_s, sites_s = _conduct(case, folder=Path(folder))
    overheads_s = [whole - work for whole, work in zip(rounds_s, sites_s, strict=True)]
    overhead_s = statistics.median(overheads_s)
    return Measurement(
        name="round_overhead_share",
        value=overhead_s / _ROUND_S,
        unit="share",
        baseline="a round of 60 seconds",
        detail={
            "sites": case.sites,
            "steps_per_site": case.steps,
            "features": str(case.features),
            "rounds": len(rounds_s),
            "round_s": statistics.median(rounds_s),
            "overhead_s": overhead_s,
            "share_of_these_rounds": statistics.median(
                overhead / whole for overhead, whole in zip(overheads_s, rounds_s, strict=True)
            ),
        },
    )


def _conduct(case: _Case, *, folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of each round after the first, and those of the sites' work in it."""
    generate_hospitals(folder / "data", hospitals=default_hospitals(case.sites, case.cases), seed=7)
    session = open_session(
        phantom_study(case.features, rounds=case.rounds, steps=case.steps, num_threads=2),
        data=folder / "data",
        output=open_output(folder / "out", resume=False),
        device=torch.device("cpu"),
        observer=Broadcast(()),
    )
    watched = _Watched({site: session.agent(site) for site in session.sites})
    coordinator = Coordinator(
        run=FEDERATED,
        plan=session.plan,
        initial=session.initial,
        store=session.store,
        blobs=session.blobs(FEDERATED),
        clock=SystemClock(),
        observer=session.observer,
    )

    def main(link: Link) -> None:
        coordinator.conduct(link)

    run_in_process(
        make_server_app(main), make_client_app(watched.handle), sites=sorted(session.sites)
    )
    records = [
        record
        for record in session.store.rounds(FEDERATED, stage=0)
        if record.state is RoundState.CLOSED and record.index > 1
    ]
    return (
        [record.seconds for record in records],
        [watched.seconds[record.index] for record in records],
    )


def _seconds(values: Mapping[str, Json], key: str) -> float:
    found = values[key]
    assert isinstance(found, float), key
    return found
