"""Sites with quadratic losses, played through the real coordinator, exchange and sites' state.

Site i minimises (w - a_i)' H_i (w - a_i) / 2 by plain gradient steps, so the optimum of all sites
together is known in closed form, and so is the bias of averaging after several local steps.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import tiny_text
from torch import nn

from fedvol.client.local_state import LocalState
from fedvol.client.site_correction import correction_of, site_control
from fedvol.config.loading import parse_study
from fedvol.federation import (
    Action,
    EvaluationReport,
    HealthReport,
    MetricSums,
    Reply,
    Request,
    TrainReport,
    build_exchange,
    to_arrays,
)
from fedvol.plan import (
    NetworkDescription,
    Plan,
    TensorKind,
    TensorSpec,
    class_names,
    metric_keys,
    selection_metrics,
    state_digest,
)
from fedvol.server import Coordinator, Outcome, SystemClock
from fedvol.store import BlobStore, RoundRecord, RunStore, open_engine
from fedvol.types import Digest, RunId, SiteId, State

RUN = RunId("quadratics")
LEARNING_RATE = 0.2
SITES: dict[SiteId, tuple[int, np.ndarray, np.ndarray]] = {
    # training cases, H_i, a_i: curvatures, minima and sizes all differ
    SiteId("a"): (3, np.diag([1.0, 0.3]), np.array([1.0, -1.0])),
    SiteId("b"): (1, np.array([[2.0, 0.5], [0.5, 0.4]]), np.array([-2.0, 3.0])),
    SiteId("c"): (2, np.diag([0.2, 2.5]), np.array([4.0, 1.0])),
}
INITIAL: State = {"w": np.zeros(2, dtype=np.float32), "mean": np.zeros(1, dtype=np.float32)}
SPECS = (
    TensorSpec(name="w", shape=(2,), dtype="float32", kind=TensorKind.ENCODER),
    TensorSpec(name="mean", shape=(1,), dtype="float32", kind=TensorKind.NORM, trainable=False),
)


def optimum() -> np.ndarray:
    """Where the weighted sum of all losses is smallest."""
    curvature = sum(cases * h for cases, h, _ in SITES.values())
    pull = sum(cases * h @ a for cases, h, a in SITES.values())
    return np.linalg.solve(np.asarray(curvature), np.asarray(pull))


def make_plan(strategy: str, *, rounds: int, steps: int, min_sites: int = 1) -> Plan:
    """A plan whose one trained tensor is w, with a running mean beside it."""
    text = tiny_text(
        strategy=strategy,
        rounds=f"rounds = {rounds}",
        steps_per_round=f"steps_per_round = {steps}",
        more=f"\n[federation]\nmin_sites = {min_sites}\nmax_abandoned_rounds = 1000\n",
    )
    network = NetworkDescription(tensors=SPECS, initial_digest=state_digest(INITIAL))
    study = parse_study(text, where="quadratics.toml")
    return Plan(software="0.1.0", study=study, sites=tuple(SITES), network=network)


class _Vector(nn.Module):
    def __init__(self, w: np.ndarray) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w.copy()))


def _always(request: Request) -> bool:
    return True


@dataclass(kw_only=True)
class QuadraticSites:
    """A link to them.

    Attributes:
        plan: The plan.
        folder: Where each site's own state lies.
        answers: Whether a site hears a request to train at all.
        arrives: Whether its reply arrives; the site has done and kept its work.
        present: Sites that are there.
        backwards: Whether the last site answers first.
        told: The arguments of every request to train.
    """

    plan: Plan
    folder: Path
    answers: Callable[[Request], bool] = _always
    arrives: Callable[[Request], bool] = _always
    present: Sequence[SiteId] = tuple(SITES)
    backwards: bool = False
    told: dict[tuple[int, SiteId], dict[str, Any]] = field(default_factory=dict)

    def sites(self) -> tuple[SiteId, ...]:
        return tuple(self.present)

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for request in reversed(requests) if self.backwards else requests:
            match request.action:
                case Action.HEALTH:
                    yield _reply(request, values=self._health(request))
                case Action.FINETUNE if self.answers(request):
                    reply = self._train(request)
                    if self.arrives(request):
                        yield reply
                case Action.VALIDATE:
                    yield _judged(request, self.plan)
                case _:
                    continue

    def control(self, site: SiteId, *, round_index: int) -> np.ndarray:
        """c_i as the site kept it at the end of a round."""
        held = self._state(site, stage=0).control(round=round_index)
        return np.zeros(2) if held is None else held["w"].astype(np.float64)

    def _health(self, request: Request) -> HealthReport:
        return HealthReport(
            software="0.1.0",
            architecture=self.plan.network.architecture,
            training_cases=SITES[request.site][0],
            validation_cases=1,
            test_cases=1,
            skipped={},
        )

    def _train(self, request: Request) -> Reply:
        self.told[request.round, request.site] = dict(request.arguments)
        cases, h, a = SITES[request.site]
        stage = self.plan.study.stages[request.stage]
        exchange = build_exchange(self.plan.network, strategy=stage.strategy)
        state = self._state(request.site, stage=request.stage)
        assert set(request.state) == {spec.name for spec in exchange.down}
        net = _Vector(request.state["w"])
        control = site_control(request, net=net, exchange=exchange, state=state)
        correction = correction_of(request, strategy=stage.strategy, net=net, control=control)
        curvature, minimum = (torch.tensor(x, dtype=torch.float32) for x in (h, a))
        losses = []
        for _ in range(stage.steps_per_round):
            away = net.w.detach() - minimum
            losses.append(float(0.5 * away @ curvature @ away))
            net.w.grad = curvature @ away
            if correction is not None:
                correction.correct(net)
            with torch.no_grad():
                net.w -= LEARNING_RATE * net.w.grad
        tensors: dict[str, Any] = {
            "w": net.w.detach().numpy() - request.state["w"],
            "mean": np.array([cases], dtype=np.float32) - request.state["mean"],
        }
        if control is not None:
            tensors |= control.finish(specs=exchange.shared, state=state, round_index=request.round)
        report = TrainReport(
            cases=cases, steps=len(losses), train_seconds=0.1, loss=float(np.mean(losses))
        )
        return _reply(request, values=report, tensors=tensors)

    def _state(self, site: SiteId, *, stage: int) -> LocalState:
        return LocalState(self.folder / site, run=RUN, stage=stage, plan=self.plan.digest)


class Quiet:
    def event(self, name: str, /, **fields: object) -> None:
        pass


class _Keeping:
    """A blob store that removes nothing, so that a test can look at the last global state."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def prune(self, keep: Collection[Digest]) -> int:
        return 0


@dataclass(kw_only=True)
class Server:
    """A coordinator's folder; every call of `conduct` is a process of its own."""

    plan: Plan
    folder: Path

    def conduct(self, link: Any, *, store: Any = None, blobs: Any = None) -> Outcome:
        held = RunStore(open_engine(self.folder / "run.db"))
        try:
            return Coordinator(
                run=RUN,
                plan=self.plan,
                initial=INITIAL,
                store=held if store is None else store(held),
                blobs=self.blobs if blobs is None else blobs(self.blobs),
                clock=SystemClock(),
                observer=Quiet(),
            ).conduct(link)
        finally:
            held._engine.dispose()

    @property
    def blobs(self) -> Any:
        return _Keeping(BlobStore(self.folder / "blobs"))

    def rounds(self) -> tuple[RoundRecord, ...]:
        held = RunStore(open_engine(self.folder / "run.db"))
        try:
            return held.rounds(RUN)
        finally:
            held._engine.dispose()

    def last(self) -> State:
        """The newest global state, companions included."""
        closed = [record for record in self.rounds() if record.aggregate is not None]
        assert closed[-1].aggregate is not None
        with self.blobs.open(closed[-1].aggregate) as file:
            return file.read_all()


def play(plan: Plan, folder: Path, **link: Any) -> tuple[Server, QuadraticSites]:
    """A whole run."""
    server = Server(plan=plan, folder=folder / "server")
    sites = QuadraticSites(plan=plan, folder=folder / "sites", **link)
    server.conduct(sites)
    return server, sites


def _reply(request: Request, *, values: Any, tensors: State | None = None) -> Reply:
    return Reply(
        run=request.run,
        stage=request.stage,
        round=request.round,
        site=request.site,
        action=request.action,
        code="",
        title="",
        tensors=tensors or {},
        values=json.loads(values.model_dump_json()),
        bytes_up=1,
        bytes_down=2,
    )


def _judged(request: Request, plan: Plan) -> Reply:
    keys = metric_keys(selection_metrics(plan.study.evaluation), class_names(plan.study.data))
    ones = np.ones(len(keys), dtype=np.int64)
    sums = MetricSums(
        keys=keys,
        sums=np.full((len(keys), 1), min(request.round / 1000, 1.0)),
        counts=ones[:, np.newaxis],
        undefined=0 * ones,
        penalised=0 * ones,
        lone_sites=ones,
    )
    report = EvaluationReport(keys=keys, cases=1, evaluate_seconds=0.0)
    return _reply(request, values=report, tensors=to_arrays(sums)[0])
