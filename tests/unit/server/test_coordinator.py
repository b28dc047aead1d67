"""The coordinator over sites that answer with arithmetic: no network, no torch."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_study

from fedvol.config import Study
from fedvol.errors import DiskFullError, PlanMismatchError, QuorumError, TransportError
from fedvol.federation import (
    Action,
    EvaluationReport,
    HealthReport,
    MetricSums,
    Reply,
    Request,
    RoundState,
    RunState,
    SiteState,
    TrainReport,
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
from fedvol.server import Coordinator, SystemClock
from fedvol.store import BlobStore, RunStore, open_engine
from fedvol.types import Digest, RunId, SiteId, State

RUN = RunId("run")
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
    keys = metric_keys(selection_metrics(study.evaluation), class_names(study.data))
    count = 0 if value is None else 1
    ones = np.ones(len(keys), dtype=np.int64)
    sums = MetricSums(
        keys=keys,
        sums=np.full((len(keys), 1), value or 0.0),
        counts=np.full((len(keys), 1), count, dtype=np.int64),
        undefined=undefined * ones,
        penalised=0 * ones,
        subjects=count * ones,
        lone_sites=count * ones,
    )
    report = EvaluationReport(keys=keys, cases=1, subjects=1, evaluate_seconds=0.0)
    return reply(request, tensors=to_arrays(sums)[0], values=report.model_dump(mode="json"))


@pytest.fixture
def plan() -> Plan:
    network = NetworkDescription(tensors=SPECS, initial_digest=state_digest(INITIAL))
    return Plan(software="0.1.0", study=tiny_study(), sites=("a", "b"), network=network)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    engine = open_engine(tmp_path / "run.db")
    yield RunStore(engine)
    engine.dispose()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def coordinator(
    plan: Plan, store: RunStore, blobs: BlobStore, *, initial: State = INITIAL
) -> Coordinator:
    return Coordinator(
        run=RUN,
        plan=plan,
        initial=initial,
        store=store,
        blobs=blobs,
        clock=SystemClock(),
        observer=Events(),
    )


def weights(blobs: BlobStore, digest: Digest) -> list[float]:
    with blobs.open(digest) as file:
        return file.read("w").tolist()


def test_a_run_averages_every_round_and_releases_the_best(
    plan: Plan, store: RunStore, blobs: BlobStore
) -> None:
    outcome = coordinator(plan, store, blobs).conduct(FakeLink(plan))
    assert outcome.best_round == 3
    assert weights(blobs, outcome.release) == [1 + 3 * 2.5, 2 + 3 * 2.5]
    run = store.run(RUN)
    assert run is not None
    assert run.state is RunState.FINISHED
    assert [r.state for r in store.rounds(RUN)] == [RoundState.CLOSED] * 3


def test_order_of_replies_changes_no_bit(
    plan: Plan, store: RunStore, tmp_path: Path, blobs: BlobStore
) -> None:
    class Forward(FakeLink):
        def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
            return super().ask(list(reversed(requests)))

    other = RunStore(open_engine(tmp_path / "other.db"))
    one = coordinator(plan, store, blobs).conduct(FakeLink(plan))
    two = coordinator(plan, other, BlobStore(tmp_path / "other")).conduct(Forward(plan))
    assert one.release == two.release


def test_a_refused_site_below_the_minimum_abandons_then_fails(
    plan: Plan, store: RunStore, blobs: BlobStore
) -> None:
    def silent(request: Request) -> Reply | None:
        if request.action is Action.FINETUNE and request.site == "b":
            values = TrainReport(cases=3, steps=2, train_seconds=0.1, loss=1.0)
            tensors: State = {"w": np.zeros(2, dtype=np.float32)}
            return reply(request, tensors=tensors, values=values.model_dump(mode="json"))
        return None

    with pytest.raises(QuorumError, match="3 times in a row"):
        coordinator(plan, store, blobs).conduct(FakeLink(plan, change=silent))
    run = store.run(RUN)
    assert run is not None
    assert run.state is RunState.FAILED
    assert "1 of at least 2 sites contributed" in run.reason
    rounds = store.rounds(RUN)
    assert [r.state for r in rounds] == [RoundState.ABANDONED] * 3
    states = {site.site: site.state for site in rounds[0].sites}
    assert states == {"a": SiteState.CONTRIBUTED, "b": SiteState.TRAINED}
    # and it can be resumed once the site is mended
    assert coordinator(plan, store, blobs).conduct(FakeLink(plan)).best_round == 3


def test_a_cut_link_leaves_a_run_that_repeats_no_finished_round(
    plan: Plan, store: RunStore, blobs: BlobStore, tmp_path: Path
) -> None:
    def cut(request: Request) -> Reply | None:
        if request.action is Action.FINETUNE and (request.round, request.site) == (2, "a"):
            raise TransportError("link", "cut", "Mend it.")
        return None

    with pytest.raises(TransportError):
        coordinator(plan, store, blobs).conduct(FakeLink(plan, change=cut))
    again = FakeLink(plan)
    outcome = coordinator(plan, store, blobs).conduct(again)
    # b had contributed to round 2 already: its spooled update is used
    assert again.trained == [("a", 2), ("b", 3), ("a", 3)]
    whole = coordinator(
        plan, RunStore(open_engine(tmp_path / "w.db")), BlobStore(tmp_path / "w")
    ).conduct(FakeLink(plan))
    assert outcome.release == whole.release


def test_a_round_whose_extra_finding_vanished_may_be_best(
    plan: Plan, store: RunStore, blobs: BlobStore
) -> None:
    """Fewer false positives make a case undefined, not the round incomparable."""

    def fewer(request: Request) -> Reply | None:
        if request.action is not Action.VALIDATE or request.site == "a":
            return None
        if request.round == 3:
            return judged(request, plan.study, value=None, undefined=1)
        return judged(request, plan.study, value=0.0)

    outcome = coordinator(plan, store, blobs).conduct(FakeLink(plan, change=fewer))
    assert outcome.best_round == 3


def test_a_round_judged_by_fewer_sites_is_not_the_best(
    plan: Plan, store: RunStore, blobs: BlobStore
) -> None:
    class Partial(FakeLink):
        def answer(self, request: Request) -> Reply | None:
            missing = request.action is Action.VALIDATE and request.round == 3
            return None if missing and request.site == "b" else super().answer(request)

    assert coordinator(plan, store, blobs).conduct(Partial(plan)).best_round == 2


def test_sites_of_another_minor_version_are_refused(
    plan: Plan, store: RunStore, blobs: BlobStore
) -> None:
    with pytest.raises(QuorumError, match=r"runs fedvol 0\.2\.0"):
        coordinator(plan, store, blobs).conduct(FakeLink(plan, software="0.2.0"))
    patch = FakeLink(plan, software="0.1.9")
    assert coordinator(plan, store, blobs).conduct(patch).best_round == 3


def test_too_few_sites_are_told_without_empty_brackets(
    plan: Plan, store: RunStore, blobs: BlobStore
) -> None:
    alone = Plan.model_validate(plan.model_dump() | {"sites": plan.sites[:1]})
    with pytest.raises(QuorumError, match=r"1 of at least 2 sites would train\. Mend") as caught:
        coordinator(alone, store, blobs).conduct(FakeLink(alone))
    assert "begin a new run" in caught.value.fix


def test_other_initial_weights_than_the_plans_are_refused(
    plan: Plan, store: RunStore, blobs: BlobStore
) -> None:
    other: State = {"w": np.zeros(2, dtype=np.float32)}
    with pytest.raises(PlanMismatchError, match="initial weights"):
        coordinator(plan, store, blobs, initial=other).conduct(FakeLink(plan))
    assert store.run(RUN) is None


def test_a_finished_run_keeps_its_state_and_the_first_error(
    plan: Plan, store: RunStore, blobs: BlobStore
) -> None:
    coordinator(plan, store, blobs).conduct(FakeLink(plan))

    def full(request: Request) -> Reply | None:
        raise DiskFullError(str(request.site), "no space left", "Free some.")

    with pytest.raises(DiskFullError):
        coordinator(plan, store, blobs).conduct(FakeLink(plan, change=full))
    run = store.run(RUN)
    assert run is not None
    assert run.state is RunState.FINISHED
