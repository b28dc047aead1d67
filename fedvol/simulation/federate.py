"""One federation on one machine: the coordinator and every agent, over the in-process link."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import fedvol
from fedvol.client import SiteAgent
from fedvol.client.app import client_app
from fedvol.config import Study
from fedvol.errors import AuditError, DiskFullError, SiteFailedError, StoreError
from fedvol.federation import Link, MetricSums, Reply, Request
from fedvol.models import describe, initial_network, to_arrays
from fedvol.plan import NetworkDescription, Plan, state_digest
from fedvol.server import Coordinator, Outcome
from fedvol.server.app import server_app
from fedvol.transport import run_in_process
from fedvol.types import SiteId, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Federated:
    """What a federation left.

    Attributes:
        outcome: The release and the sites' health.
        tests: Sums of each site's test cases; empty where no test was asked for.
    """

    outcome: Outcome
    tests: Mapping[SiteId, MetricSums]


def make_plan(study: Study, *, sites: tuple[SiteId, ...]) -> tuple[Plan, State]:
    """The plan of a study whose values are all fixed, and its initial weights."""
    net = initial_network(study)
    initial = to_arrays(net)
    description = NetworkDescription(tensors=describe(net), initial_digest=state_digest(initial))
    plan = Plan(
        software=fedvol.__version__, study=study, sites=tuple(sorted(sites)), network=description
    )
    return plan, initial


def federate(
    coordinator: Coordinator,
    agents: Mapping[SiteId, SiteAgent],
    *,
    test: bool,
) -> Federated:
    """Conduct a run over real Flower apps in this process.

    Args:
        coordinator: The server's side.
        agents: The sites' sides.
        test: Whether the sites judge the release on their test cases.
    """
    results: list[Federated] = []

    def main(link: Link) -> None:
        link = _OwnDisk(link)
        outcome = coordinator.conduct(link)
        tests = coordinator.test(link, outcome) if test else {}
        results.append(Federated(outcome=outcome, tests=tests))

    run_in_process(server_app(main), client_app(agents), sites=sorted(agents))
    return results[0]


_DISK_ERRORS = {kind.code: kind for kind in (StoreError, *StoreError.__subclasses__(), AuditError)}
_SITE_FAILED = SiteFailedError.code


@final
class _OwnDisk:
    """The link of a simulation, where the sites' disk is this machine's.

    A hospital whose disk is full sits a round out. Here the run must stop instead, to be resumed
    once there is space: going on with the other sites would give another model than without the
    interruption.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    def sites(self) -> tuple[SiteId, ...]:
        """Sites that are there."""
        return self._link.sites()

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Replies, until a site's store fails.

        Raises:
            StoreError: A site's store failed.
        """
        for reply in self._link.ask(requests):
            if kind := _DISK_ERRORS.get(reply.code):
                raise kind(f"site {reply.site}", reply.title, "Mend it, then add --resume.")
            yield reply
