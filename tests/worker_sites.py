"""Sites for tests of links: small enough to be told apart, importable by processes of their own."""

import functools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedvol.config import SIMULATION_POLICY
from fedvol.errors import NoLabelsError, VolumeUnreadableError
from fedvol.federation import (
    Action,
    EvaluationReport,
    Exchange,
    HealthReport,
    MetricSums,
    Request,
    TrainReport,
)
from fedvol.plan import TensorKind, TensorSpec
from fedvol.privacy import Contribution, HeldSubjects, JudgedCases, Releaser, Update
from fedvol.telemetry import Broadcast, Observer
from fedvol.transport import Context, Message, make_client_app
from fedvol.types import Digest, RunId, SiteId, State, SubjectId

PLAN = Digest("a" * 64)
SITES = tuple(SiteId(name) for name in ("a", "b", "c"))
SHARED = (TensorSpec(name="w", shape=(4,), dtype="float32", kind=TensorKind.ENCODER),)
LOCAL = (TensorSpec(name="n", shape=(2,), dtype="float32", kind=TensorKind.NORM),)
EXCHANGE = Exchange(shared=SHARED, local=LOCAL)
GLOBAL: State = {"w": np.arange(4, dtype="f4")}

FAILING_KEY = "failing"
"""Key of a node's configuration: a name of `FAILURES`, `dies` or `hangs`."""

FAILURES: Mapping[str, Exception] = {
    "no labels": NoLabelsError("site b", "no labels", "Add some."),
    "bug": RuntimeError("/data/patients/smith.nii.gz"),
    "broken volume": VolumeUnreadableError(
        "/data/patients/smith.nii.gz", "broken", "Ask Dr Smith."
    ),
}


class Nowhere:
    def append(self, record) -> None:
        pass


@dataclass
class Sites:
    """What the sites of a test do; `asked` is the order in which they worked."""

    asked: list[SiteId] = field(default_factory=list)
    failing: Mapping[SiteId, str] = field(default_factory=dict)

    def handle(self, site: SiteId, request: Request) -> Contribution:
        self.asked.append(site)
        return work(site, request, failing=self.failing.get(site, ""))


def work(site: SiteId, request: Request, *, failing: str) -> Contribution:
    gate = Releaser(site=site, plan=PLAN, policy=SIMULATION_POLICY, audit=Nowhere())
    if failing == "no labels":
        error = FAILURES[failing]
        assert isinstance(error, NoLabelsError)
        return gate.refusal(request, error)
    if failing in FAILURES:
        raise FAILURES[failing]
    if failing == "dies":
        os._exit(3)
    if failing == "hangs":
        time.sleep(600)
    match request.action:
        case Action.PRETRAIN | Action.FINETUNE:
            number = np.float32(SITES.index(site) + 1)
            report = TrainReport(cases=int(number), steps=2, train_seconds=0.1, loss=0.5)
            # A site may do with its copy of the state what it likes.
            request.state["w"][:] += number  # type: ignore[index]
            update = Update(tensors={"w": request.state["w"] - GLOBAL["w"]}, report=report)
            return gate.update(request, update, exchange=EXCHANGE)
        case Action.PERSONALISE:
            report = TrainReport(cases=3, steps=2, train_seconds=0.1, loss=0.5)
            return gate.report(request, report)
        case Action.NORMS:
            return gate.norms(request, {"n": np.ones(2, "f4")}, exchange=EXCHANGE)
        case Action.HEALTH:
            return gate.health(request, _health(), behind=_HELD)
        case Action.VALIDATE | Action.TEST:
            return gate.evaluation(request, *_evaluation(), behind=_JUDGED)
        case Action.FINGERPRINT:
            raise AssertionError("no fingerprint is asked for here")


def open_app(worker: int, observer: Observer):
    """The app of a worker of a pool; whatever else a worker is asked to be like."""

    def app(message: Message, context: Context) -> Message:
        def handle(site: SiteId, request: Request) -> Contribution:
            observer.event("asked", site=site, worker=worker, process=os.getpid())
            return work(site, request, failing=str(context.node_config.get(FAILING_KEY, "")))

        return make_client_app(handle)(message, context)

    return app


def open_on_gpu(worker: int, observer: Observer, *, num_gpus: int):
    """The app of a worker that takes its GPU as a simulation's workers do, and tells which."""
    import torch

    from fedvol.simulation.sites_app import open_in_worker

    open_in_worker(worker, observer, device_type="cuda", num_gpus=num_gpus, num_workers=1)
    observer.event("opened", worker=worker, gpu=torch.cuda.current_device())
    return open_app(worker, observer)


def open_nothing(worker: int, observer: Observer):
    """A worker that does not even start."""
    raise RuntimeError("no such library")


@functools.cache
def app_in_actor():
    """The app of a Ray actor."""
    return open_app(0, Broadcast(()))


def request(site: SiteId, action: Action = Action.FINETUNE, *, limit_s: float = 60.0) -> Request:
    return Request(
        run=RunId("r1"),
        plan=PLAN,
        stage=0,
        round=1,
        site=site,
        action=action,
        state=GLOBAL if action in (Action.PRETRAIN, Action.FINETUNE) else {},
        arguments={},
        limit_s=limit_s,
    )


_HELD = HeldSubjects(training=3, pretraining=3, validation=1, test=1, skipped={})
_JUDGED = JudgedCases(
    subjects=(SubjectId("S1"), SubjectId("S2")),
    defined=np.ones((2, 1), dtype=bool),
    penalised=np.zeros((2, 1), dtype=bool),
)


def _health() -> HealthReport:
    return HealthReport(
        software="0.1.0",
        architecture=PLAN,
        training_cases=3,
        validation_cases=1,
        test_cases=1,
        skipped={},
    )


def _evaluation() -> tuple[MetricSums, EvaluationReport]:
    sums = MetricSums(
        keys=("dice",),
        sums=np.array([[1.5]]),
        counts=np.array([[2]]),
        undefined=np.array([0]),
        penalised=np.array([0]),
        lone_sites=np.array([0]),
    )
    return sums, EvaluationReport(keys=("dice",), cases=2, evaluate_seconds=0.1)
