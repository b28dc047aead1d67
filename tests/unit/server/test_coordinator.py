"""The coordinator over sites that answer with arithmetic: no network, no torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from arithmetic_sites import INITIAL, SPECS, Events, FakeLink, judged, reply
from tiny import tiny_study

from fedvol.errors import DiskFullError, PlanMismatchError, QuorumError, TransportError
from fedvol.federation import (
    Action,
    Reply,
    Request,
    RoundState,
    RunState,
    SiteState,
    TrainReport,
)
from fedvol.plan import (
    NetworkDescription,
    Plan,
    state_digest,
)
from fedvol.server import Coordinator, SystemClock
from fedvol.store import BlobStore, RunStore, open_engine
from fedvol.types import Digest, RunId, State

RUN = RunId("run")


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


def test_the_last_round_is_released_where_the_study_says_so(
    plan: Plan, store: RunStore, blobs: BlobStore, tmp_path: Path
) -> None:
    def falling(request: Request) -> Reply | None:
        if request.action is not Action.VALIDATE:
            return None
        return judged(request, plan.study, value=1 / (1 + request.round))

    assert coordinator(plan, store, blobs).conduct(FakeLink(plan, change=falling)).best_round == 1
    evaluation = plan.study.evaluation.model_copy(update={"release": "last"})
    study = plan.study.model_copy(update={"evaluation": evaluation})
    last = plan.model_copy(update={"study": study})
    other = RunStore(open_engine(tmp_path / "last.db"))
    outcome = coordinator(last, other, BlobStore(tmp_path / "last")).conduct(
        FakeLink(last, change=falling)
    )
    assert outcome.best_round == 3


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
