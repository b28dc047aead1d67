"""What every `Link` promises, on the Flower link over the in-process grid."""

import gc
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from fedvol.config import SIMULATION_POLICY
from fedvol.errors import NoLabelsError, TransportError, VolumeUnreadableError
from fedvol.federation import (
    Action,
    EvaluationReport,
    Exchange,
    HealthReport,
    Link,
    MetricSums,
    Reply,
    Request,
    TrainReport,
)
from fedvol.plan import TensorKind, TensorSpec
from fedvol.privacy import Contribution, Releaser, Update
from fedvol.transport import (
    Fault,
    FlowerLink,
    InProcessGrid,
    VirtualClock,
    make_client_app,
    make_server_app,
    run_in_process,
)
from fedvol.types import Digest, RunId, SiteId, State

PLAN = Digest("a" * 64)
SITES = tuple(SiteId(name) for name in ("a", "b", "c"))
SHARED = (TensorSpec(name="w", shape=(4,), dtype="float32", kind=TensorKind.ENCODER),)
LOCAL = (TensorSpec(name="n", shape=(2,), dtype="float32", kind=TensorKind.NORM),)
EXCHANGE = Exchange(shared=SHARED, local=LOCAL)
GLOBAL: State = {"w": np.arange(4, dtype="f4")}


class Nowhere:
    def append(self, record) -> None:
        pass


@dataclass
class Sites:
    """What the sites of a test do; `asked` is the order in which they worked."""

    asked: list[SiteId] = field(default_factory=list)
    failing: Mapping[SiteId, Exception] = field(default_factory=dict)

    def handle(self, site: SiteId, request: Request) -> Contribution:
        self.asked.append(site)
        gate = Releaser(site=site, plan=PLAN, policy=SIMULATION_POLICY, audit=Nowhere())
        error = self.failing.get(site)
        if isinstance(error, NoLabelsError):
            return gate.refusal(request, error)
        if error is not None:
            raise error
        match request.action:
            case Action.FINETUNE:
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
                return gate.health(request, health())
            case Action.VALIDATE | Action.TEST:
                return gate.evaluation(request, *evaluation())


def health() -> HealthReport:
    return HealthReport(
        software="0.1.0",
        architecture=PLAN,
        training_cases=3,
        training_subjects=3,
        validation_cases=1,
        test_cases=1,
        skipped={},
    )


def evaluation() -> tuple[MetricSums, EvaluationReport]:
    sums = MetricSums(
        keys=("dice",),
        sums=np.array([[1.5]]),
        counts=np.array([[2]]),
        undefined=np.array([0]),
        penalised=np.array([0]),
        subjects=np.array([2]),
        lone_sites=np.array([0]),
    )
    return sums, EvaluationReport(keys=("dice",), cases=2, subjects=2, evaluate_seconds=0.1)


def request(site: SiteId, action: Action = Action.FINETUNE, *, limit_s: float = 60.0) -> Request:
    return Request(
        run=RunId("r1"),
        plan=PLAN,
        stage=0,
        round=1,
        site=site,
        action=action,
        state=GLOBAL if action is Action.FINETUNE else {},
        arguments={},
        limit_s=limit_s,
    )


MakeLink = Callable[..., tuple[Link, VirtualClock]]


def over_in_process_grid(
    handle: Callable[[SiteId, Request], Contribution],
    faults: Callable[[Request], Fault | None] | None = None,
) -> tuple[Link, VirtualClock]:
    clock = VirtualClock()
    grid = InProcessGrid(make_client_app(handle), sites=SITES, faults=faults, clock=clock)
    return FlowerLink(grid), clock


@pytest.fixture(params=[over_in_process_grid], ids=["flower in process"])
def make_link(request: pytest.FixtureRequest) -> MakeLink:
    return request.param


def ask(link: Link, **changes) -> list[Reply]:
    return list(link.ask([request(site, **changes) for site in reversed(SITES)]))


def on(site: str, fault: Fault) -> Callable[[Request], Fault | None]:
    return lambda one: fault if one.site == site else None


def test_names_its_sites_sorted(make_link: MakeLink) -> None:
    link, _ = make_link(Sites().handle)
    assert link.sites() == SITES


def test_every_site_answers_once_with_its_own_update(make_link: MakeLink) -> None:
    sites = Sites()
    link, clock = make_link(sites.handle)
    replies = ask(link)
    assert [reply.site for reply in replies] == list(SITES)
    for number, reply in enumerate(replies, start=1):
        np.testing.assert_array_equal(reply.tensors["w"], np.full(4, number, "f4"))
        assert reply.values["cases"] == number
        assert (reply.code, reply.run, reply.round, reply.action) == (
            "",
            "r1",
            1,
            Action.FINETUNE,
        )
        assert reply.bytes_up > 16
        assert reply.bytes_down > 16
    np.testing.assert_array_equal(GLOBAL["w"], np.arange(4))
    assert clock.now_s() == 0


@pytest.mark.parametrize("action", list(Action))
def test_carries_every_action(make_link: MakeLink, action: Action) -> None:
    link, _ = make_link(Sites().handle)
    replies = ask(link, action=action)
    assert [(reply.action, reply.code) for reply in replies] == [(action, "")] * 3


def test_repeats_bit_for_bit(make_link: MakeLink) -> None:
    def run() -> list[tuple]:
        link, _ = make_link(Sites().handle)
        return [(r.site, r.tensors["w"].tobytes(), dict(r.values), r.bytes_up) for r in ask(link)]

    assert run() == run()


def test_works_lazily_and_holds_one_update_at_a_time(make_link: MakeLink) -> None:
    sites = Sites()
    link, _ = make_link(sites.handle)
    replies = link.ask([request(site) for site in SITES])
    seen: list[weakref.ref] = []
    for number, reply in enumerate(replies, start=1):
        assert sites.asked == list(SITES[:number])
        gc.collect()
        assert [ref() for ref in seen] == [None] * len(seen)
        seen.append(weakref.ref(reply.tensors["w"]))
        del reply
    assert len(seen) == 3


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.LOST])
def test_silent_site_is_missing_once_its_limit_has_passed(
    make_link: MakeLink, fault: Fault
) -> None:
    link, clock = make_link(Sites().handle, on("b", fault))
    replies = ask(link, limit_s=3600.0)
    assert [reply.site for reply in replies] == ["a", "c"]
    assert 3600 <= clock.now_s() < 3602


def test_all_silent_ends(make_link: MakeLink) -> None:
    link, clock = make_link(Sites().handle, lambda _: Fault.SILENT)
    assert ask(link, limit_s=5.0) == []
    assert clock.now_s() >= 5


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.ERROR, "FV-TRAN-002"),
        (Fault.CRASH, "FV-TRAN-000"),
        (Fault.CORRUPT, "FV-TRAN-001"),
        (Fault.WRONG_SITE, "FV-TRAN-001"),
    ],
)
@pytest.mark.parametrize("action", [Action.FINETUNE, Action.HEALTH])
def test_fault_of_one_site_is_its_own(
    make_link: MakeLink, fault: Fault, code: str, action: Action
) -> None:
    link, clock = make_link(Sites().handle, on("b", fault))
    replies = {reply.site: reply for reply in ask(link, action=action)}
    assert {site: reply.code for site, reply in replies.items()} == {"a": "", "b": code, "c": ""}
    assert not replies[SiteId("b")].tensors
    assert not replies[SiteId("b")].values
    assert "/" not in replies[SiteId("b")].title
    assert clock.now_s() == 0


@pytest.mark.parametrize("fault", [Fault.DUPLICATE, Fault.STRANGER])
def test_what_was_not_asked_is_not_heard(make_link: MakeLink, fault: Fault) -> None:
    link, _ = make_link(Sites().handle, lambda _: fault)
    replies = ask(link)
    assert [(reply.site, reply.code) for reply in replies] == [("a", ""), ("b", ""), ("c", "")]


def test_refusal_comes_through_with_its_code(make_link: MakeLink) -> None:
    refusing = Sites(failing={SiteId("b"): NoLabelsError("site b", "no labels", "Add some.")})
    link, _ = make_link(refusing.handle)
    reply = ask(link)[1]
    assert (reply.site, reply.code, reply.title) == ("b", "FV-FED-006", "no labels")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("/data/patients/smith.nii.gz"),
        VolumeUnreadableError("/data/patients/smith.nii.gz", "broken", "Ask Dr Smith."),
    ],
)
def test_text_of_an_exception_stays_at_the_site(
    make_link: MakeLink, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    link, _ = make_link(Sites(failing={SiteId("b"): error}).handle)
    reply = ask(link)[1]
    assert (reply.code, reply.title) == ("FV-TRAN-002", "site process failed")
    assert "smith" not in repr(reply).lower()
    assert "smith" in caplog.text


def test_interruption_is_not_swallowed(make_link: MakeLink) -> None:
    class Stop(BaseException):
        pass

    def handle(site: SiteId, request: Request) -> Contribution:
        raise Stop

    link, _ = make_link(handle)
    with pytest.raises(Stop):
        ask(link)


def test_site_that_is_not_there_gets_a_code(make_link: MakeLink) -> None:
    link, _ = make_link(Sites().handle)
    replies = list(link.ask([request(SiteId("z")), request(SiteId("a"))]))
    assert {reply.site: reply.code for reply in replies} == {"a": "", "z": "FV-TRAN-000"}


def test_two_questions_to_one_site_at_once_are_a_slip(make_link: MakeLink) -> None:
    link, _ = make_link(Sites().handle)
    with pytest.raises(ValueError, match="twice"):
        link.ask([request(SITES[0]), request(SITES[0])])


def test_no_question_no_answer(make_link: MakeLink) -> None:
    link, _ = make_link(Sites().handle)
    assert list(link.ask([])) == []


def test_a_later_question_does_not_hear_an_earlier_answer(make_link: MakeLink) -> None:
    sites = Sites()
    faults = iter([Fault.LOST])
    link, _ = make_link(sites.handle, lambda _: next(faults, None))
    assert list(link.ask([request(SITES[0])])) == []
    (reply,) = link.ask([request(SITES[0], Action.HEALTH)])
    assert reply.action is Action.HEALTH
    assert sites.asked == ["a", "a"]


def test_damaged_values_reach_the_check_as_they_are(make_link: MakeLink) -> None:
    link, _ = make_link(Sites().handle, on("b", Fault.NON_FINITE))
    assert np.all(np.isnan(ask(link)[1].tensors["w"]))


def test_apps_meet_in_one_process() -> None:
    heard: list[SiteId] = []

    def main(link: Link) -> None:
        heard.extend(reply.site for reply in ask(link))

    run_in_process(make_server_app(main), make_client_app(Sites().handle), sites=SITES)
    assert heard == list(SITES)


def test_error_of_the_server_app_comes_out() -> None:
    def main(link: Link) -> None:
        raise TransportError("link", "down", "Start again.")

    with pytest.raises(TransportError):
        run_in_process(make_server_app(main), make_client_app(Sites().handle), sites=SITES)
