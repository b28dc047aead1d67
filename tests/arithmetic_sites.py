"""Sites that answer with arithmetic: no network, no torch."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fedvol.config import Study
from fedvol.federation import (
    Action,
    EvaluationReport,
    HealthReport,
    MetricSums,
    Reply,
    Request,
    TrainReport,
    to_arrays,
)
from fedvol.plan import (
    Plan,
    TensorKind,
    TensorSpec,
    class_names,
    metric_keys,
    selection_metrics,
)
from fedvol.types import SiteId, State

INITIAL: State = {"w": np.array([1.0, 2.0], dtype=np.float32)}
SPECS = (TensorSpec(name="w", shape=(2,), dtype="float32", kind=TensorKind.ENCODER),)
Answer = Callable[[Request], Reply | None]


class Events:
    def __init__(self) -> None:
        self.names: list[str] = []

    def event(self, name: str, /, **fields: object) -> None:
        self.names.append(name)


class FakeLink:
    """Sites a and b; each moves the weights by its own step. `change` may alter a reply."""

    def __init__(
        self, plan: Plan, *, software: str = "0.1.0", change: Answer | None = None
    ) -> None:
        self.plan, self.software, self.change = plan, software, change
        self.trained: list[tuple[SiteId, int]] = []

    def sites(self) -> tuple[SiteId, ...]:
        return (SiteId("a"), SiteId("b"))

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for request in reversed(requests):
            if self.change is not None:
                changed = self.change(request)
                if changed is not None:
                    yield changed
                    continue
            answer = self.answer(request)
            if answer is not None:
                yield answer

    def answer(self, request: Request) -> Reply | None:
        match request.action:
            case Action.HEALTH:
                return reply(request, values=health(self.plan, software=self.software))
            case Action.FINETUNE:
                self.trained.append((request.site, request.round))
                step = {"a": 1.0, "b": 4.0}[request.site]
                report = TrainReport(cases=3, steps=3, train_seconds=0.1, loss=1.0)
                update: State = {"w": np.full(2, step, dtype=np.float32)}
                return reply(request, tensors=update, values=report.model_dump(mode="json"))
            case Action.VALIDATE:
                return judged(request, self.plan.study, value=request.round / 10)
            case Action.TEST:
                return judged(request, self.plan.study, value=0.5)
            case _:
                return None


def reply(request: Request, *, tensors: State | None = None, values: object = None) -> Reply:
    return Reply(
        run=request.run,
        stage=request.stage,
        round=request.round,
        site=request.site,
        action=request.action,
        code="",
        title="",
        tensors=tensors or {},
        values=values or {},  # type: ignore[arg-type]
        bytes_up=1,
        bytes_down=2,
    )


def health(plan: Plan, *, software: str) -> object:
    return HealthReport(
        software=software,
        architecture=plan.network.architecture,
        training_cases=3,
        validation_cases=1,
        test_cases=1,
        skipped={},
    ).model_dump(mode="json")


def judged(request: Request, study: Study, *, value: float | None, undefined: int = 0) -> Reply:
    is_test = request.action is Action.TEST
    evaluation = study.evaluation
    metrics = evaluation.metrics if is_test else selection_metrics(evaluation)
    keys = metric_keys(metrics, class_names(study.data))
    shape = (len(keys), 1 + evaluation.bootstrap_replicates if is_test else 1)
    count = 0 if value is None else 1
    ones = np.ones(len(keys), dtype=np.int64)
    sums = MetricSums(
        keys=keys,
        sums=np.full(shape, value or 0.0),
        counts=np.full(shape, count, dtype=np.float64),
        undefined=undefined * ones,
        penalised=0 * ones,
        lone_sites=count * ones,
    )
    report = EvaluationReport(keys=keys, cases=1, evaluate_seconds=0.0)
    return reply(request, tensors=to_arrays(sums)[0], values=report.model_dump(mode="json"))
