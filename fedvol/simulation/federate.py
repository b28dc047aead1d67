"""One federation on one machine: the coordinator, and every site wherever it works."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

from torch import nn

import fedvol
from fedvol.client.app import client_app
from fedvol.client.fingerprinting import FingerprintAgent
from fedvol.config import Study
from fedvol.errors import (
    CaseStoreError,
    CompileError,
    StoreError,
    TimeLimitError,
    classes_by_code,
)
from fedvol.federation import Link, MetricSums, Reply, Request, plan_exchange, terms_of
from fedvol.models import describe, initial_network, to_arrays, transfer
from fedvol.plan import (
    Fingerprint,
    NetworkDescription,
    Plan,
    PlanningRecord,
    Proposal,
    StartingWeights,
    join_initial,
    state_digest,
)
from fedvol.privacy import Contribution
from fedvol.server import Coordinator, Outcome, ask_fingerprints
from fedvol.simulation.failures import own_failure
from fedvol.ssl import describe_pretraining, initial_pretext_network
from fedvol.store import PretrainedFile
from fedvol.telemetry import Observer
from fedvol.transport import ServerApp, make_server_app, run_in_process
from fedvol.types import RunId, SiteId, State

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Federated:
    """What a federation left.

    Attributes:
        outcome: The release and the sites' health.
        tests: Sums of each site's test cases; empty where no test was asked for.
        personal_tests: The same of each site's personal model; empty where there are none.
    """

    outcome: Outcome
    tests: Mapping[SiteId, MetricSums]
    personal_tests: Mapping[SiteId, MetricSums]


def make_plan(
    study: Study,
    *,
    sites: tuple[SiteId, ...],
    planning: PlanningRecord | None = None,
    weights: PretrainedFile | None = None,
) -> tuple[Plan, State]:
    """The plan of a study, and its initial weights.

    Args:
        study: The study, nothing left open.
        sites: Who may take part.
        planning: How values that were open came about.
        weights: The file of pretrained weights that the study names.

    Raises:
        NoNormLayersError: A stage needs norm layers, and the network has none.
        NetworkConfigError: A stage needs parts that the network does not have.
        TransferError: The pretrained weights do not fit; carries every reason.
    """
    net = initial_network(study)
    start = None if weights is None else take_over(net, study, weights)
    initial = to_arrays(net)
    pretraining = pretext = None
    if study.pretrain is not None:
        pretext_net = initial_pretext_network(study, study.pretrain)
        pretraining = describe_pretraining(study, pretext=pretext_net, net=net)
        pretext = to_arrays(pretext_net)
    plan = Plan(
        software=fedvol.__version__,
        study=study,
        sites=tuple(sorted(sites)),
        network=NetworkDescription(tensors=describe(net), initial_digest=state_digest(initial)),
        pretraining=pretraining,
        start=start,
        planning=planning,
    )
    for index in range(len(study.stages)):
        plan_exchange(plan, index)  # what cannot travel is told before any training
    return plan, join_initial(initial, pretext=pretext)


def take_over(net: nn.Module, study: Study, weights: PretrainedFile) -> StartingWeights:
    """Overwrite what a study's network takes over from a file of pretrained weights.

    Args:
        net: The network with the weights it begins with otherwise.
        study: The study; it names the file.
        weights: The file.

    Raises:
        BlobDamagedError: The file is not what it was.
        TransferError: The weights do not fit; carries every reason.
    """
    report = transfer(
        net,
        weights.read(),
        weights.record,
        terms=terms_of(study, describe(net)),
        where=str(weights.path),
    )
    return StartingWeights(digest=weights.digest, record=weights.record, report=report)


def federate_over(
    run: Callable[[ServerApp], None],
    coordinator: Coordinator,
    *,
    failures: Sequence[Exception],
    test: bool,
) -> Federated:
    """Conduct a run over whatever runs its server app.

    Args:
        run: Runs the server app over every site, to its end.
        coordinator: The server's side.
        failures: Where sites put what they raise instead of answering; it stops the run.
        test: Whether the sites judge the release on their test cases.
    """

    def conduct(link: Link) -> Federated:
        outcome = coordinator.conduct(link)
        tests = coordinator.test(link, outcome) if test else {}
        is_personal = test and outcome.personal_round is not None
        personal = coordinator.test_personal(link, outcome) if is_personal else {}
        return Federated(outcome=outcome, tests=tests, personal_tests=personal)

    return _over_link(conduct, run=run, failures=failures)


def gather_fingerprints(
    proposal: Proposal,
    agents: Mapping[SiteId, FingerprintAgent],
    *,
    job: RunId,
    observer: Observer,
) -> dict[SiteId, Fingerprint]:
    """Conduct a fingerprint job over real Flower apps in this process.

    Args:
        proposal: What sites are asked to agree to.
        agents: The sites' sides.
        job: Name of the job.
        observer: Hears of progress.

    Raises:
        QuorumError: Too few sites answered.
    """
    failures: list[Exception] = []
    handlers = {site: _noting(agent.handle, into=failures) for site, agent in agents.items()}

    def ask(link: Link) -> dict[SiteId, Fingerprint]:
        return ask_fingerprints(link, job=job, proposal=proposal, observer=observer)

    return _over_link(
        ask,
        run=lambda server: run_in_process(server, client_app(handlers), sites=sorted(agents)),
        failures=failures,
    )


def _over_link(
    main: Callable[[Link], _Result],
    *,
    run: Callable[[ServerApp], None],
    failures: Sequence[Exception],
) -> _Result:
    """What the server's side gives, over whatever runs its server app."""
    results: list[_Result] = []
    run(make_server_app(lambda link: results.append(main(_OwnSites(link, failures=failures)))))
    return results[0]


_OWN_FAILURES = (
    classes_by_code(CaseStoreError)
    | classes_by_code(CompileError)
    | classes_by_code(StoreError)
    | classes_by_code(TimeLimitError)
)
_MORE_TIME = (
    "Add --resume: training goes on from the step it came to. If it stops again, begin anew with "
    "longer limits under [federation]."
)
_Handle = Callable[[Request], Contribution]


@final
class _OwnSites:
    """The link of a simulation, where every site's disk, process and time is this machine's.

    A hospital whose disk is full, whose process fails or whose time is up sits a round out. Here
    the run stops
    instead, to be resumed: going on with the other sites would give another model than a run
    that was never interrupted.

    Args:
        link: To the sites.
        failures: What sites raised instead of answering.
    """

    def __init__(self, link: Link, *, failures: Sequence[Exception]) -> None:
        self._link = link
        self._failures = failures

    def sites(self) -> tuple[SiteId, ...]:
        """Sites that are there."""
        return self._link.sites()

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Replies, until a site's store or process fails, or its time is up.

        Raises:
            StoreError: A site's store failed.
            CompileError: A site's network cannot be compiled.
            TimeLimitError: A site took longer than the study's limit.
        """
        for reply in self._link.ask(requests):
            if self._failures:
                raise self._failures[0]
            if kind := _OWN_FAILURES.get(reply.code):
                fix = _MORE_TIME if kind is TimeLimitError else "Mend it, and add --resume."
                raise kind(f"site {reply.site}", reply.title, fix)
            yield reply


def _noting(handle: _Handle, *, into: list[Exception]) -> _Handle:
    def noting(request: Request) -> Contribution:
        try:
            return handle(request)
        except Exception as error:
            into.append(own_failure(error))
            raise

    return noting
