"""What every `Link` promises: the Flower link, over each grid that carries its messages."""

import gc
import weakref
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tiny import Events
from worker_sites import FAILING_KEY, GLOBAL, SITES, Sites, app_in_actor, open_app, request

from fedvol.errors import TransportError
from fedvol.federation import Action, Link, Reply, Request
from fedvol.privacy import Contribution
from fedvol.transport import (
    Clock,
    Fault,
    Faults,
    FlowerLink,
    InProcessGrid,
    ProcessPool,
    RayWorkers,
    WorkerGrid,
    Workers,
    make_client_app,
    make_server_app,
    run_in_process,
    share_resources,
)
from fedvol.types import SiteId

MakeLink = Callable[..., tuple[Link, Clock]]


def over_in_process_grid(sites: Sites, faults: Faults | None = None) -> tuple[Link, Clock]:
    grid = InProcessGrid(make_client_app(sites.handle), sites=SITES, faults=faults)
    return FlowerLink(grid), grid.clock


def over_workers(workers: Workers, events: Events) -> MakeLink:
    def make(sites: Sites, faults: Faults | None = None) -> tuple[Link, Clock]:
        events.event = lambda name, /, **fields: sites.asked.append(fields["site"])  # type: ignore[method-assign]
        grid = WorkerGrid(
            workers,
            sites=SITES,
            node_config={site: {FAILING_KEY: name} for site, name in sites.failing.items()},
            faults=faults,
            on_failure=lambda site, what: None,
        )
        return FlowerLink(grid), grid.clock

    return make


@pytest.fixture(scope="module")
def over_pool() -> Generator[MakeLink]:
    events = Events()
    pool = ProcessPool(open_app, num_workers=2, observer=events)
    yield over_workers(pool, events)
    pool.close()


@pytest.fixture(scope="module")
def over_ray() -> Generator[MakeLink]:
    if find_spec("ray") is None:  # imported, it would start without its token
        pytest.skip("Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]), prepend=":")
        workers = RayWorkers(app_in_actor, resources=share_resources(2, num_gpus=0))
        yield over_workers(workers, Events())
        workers.close()


@pytest.fixture(params=["in process", "pool", "ray"])
def make_link(request: pytest.FixtureRequest) -> MakeLink:
    if request.param == "in process":
        return over_in_process_grid
    return request.getfixturevalue(f"over_{request.param}")


@pytest.fixture
def in_process() -> MakeLink:
    return over_in_process_grid


def ask(link: Link, **changes) -> list[Reply]:
    """Replies by site; in which order they arrive is the grid's own."""
    replies = link.ask([request(site, **changes) for site in reversed(SITES)])
    return sorted(replies, key=lambda reply: reply.site)


def on(site: str, fault: Fault) -> Callable[[Request], Fault | None]:
    return lambda one: fault if one.site == site else None


def test_names_its_sites_sorted(make_link: MakeLink) -> None:
    link, _ = make_link(Sites())
    assert link.sites() == SITES


def test_every_site_answers_once_with_its_own_update(make_link: MakeLink) -> None:
    sites = Sites()
    link, clock = make_link(sites)
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


# A fingerprint is asked for in a job of its own, before there is a plan.
@pytest.mark.parametrize("action", [one for one in Action if one is not Action.FINGERPRINT])
def test_carries_every_action(make_link: MakeLink, action: Action) -> None:
    link, _ = make_link(Sites())
    replies = ask(link, action=action)
    assert [(reply.action, reply.code) for reply in replies] == [(action, "")] * 3


def test_repeats_bit_for_bit(make_link: MakeLink) -> None:
    def run() -> list[tuple]:
        link, _ = make_link(Sites())
        return [(r.site, r.tensors["w"].tobytes(), dict(r.values), r.bytes_up) for r in ask(link)]

    assert run() == run()


def test_works_lazily_and_holds_one_update_at_a_time(in_process: MakeLink) -> None:
    sites = Sites()
    link, _ = in_process(sites)
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
    link, clock = make_link(Sites(), on("b", fault))
    replies = ask(link, limit_s=3600.0)
    assert [reply.site for reply in replies] == ["a", "c"]
    assert 3600 <= clock.now_s() < 3602


def test_all_silent_ends(make_link: MakeLink) -> None:
    link, clock = make_link(Sites(), lambda _: Fault.SILENT)
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
    link, clock = make_link(Sites(), on("b", fault))
    replies = {reply.site: reply for reply in ask(link, action=action)}
    assert {site: reply.code for site, reply in replies.items()} == {"a": "", "b": code, "c": ""}
    assert not replies[SiteId("b")].tensors
    assert not replies[SiteId("b")].values
    assert "/" not in replies[SiteId("b")].title
    assert clock.now_s() == 0


@pytest.mark.parametrize("fault", [Fault.DUPLICATE, Fault.STRANGER])
def test_what_was_not_asked_is_not_heard(make_link: MakeLink, fault: Fault) -> None:
    link, _ = make_link(Sites(), lambda _: fault)
    replies = ask(link)
    assert [(reply.site, reply.code) for reply in replies] == [("a", ""), ("b", ""), ("c", "")]


def test_refusal_comes_through_with_its_code(make_link: MakeLink) -> None:
    link, _ = make_link(Sites(failing={SiteId("b"): "no labels"}))
    reply = ask(link)[1]
    assert (reply.site, reply.code, reply.title) == ("b", "FV-FED-006", "no labels")


@pytest.mark.parametrize("name", ["bug", "broken volume"])
def test_text_of_an_exception_stays_at_the_site(make_link: MakeLink, name: str) -> None:
    link, _ = make_link(Sites(failing={SiteId("b"): name}))
    reply = ask(link)[1]
    assert (reply.code, reply.title) == ("FV-TRAN-002", "site process failed")
    assert "smith" not in repr(reply).lower()


def test_the_sites_own_log_holds_that_text(
    in_process: MakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    link, _ = in_process(Sites(failing={SiteId("b"): "bug"}))
    ask(link)
    assert "smith" in caplog.text


def test_interruption_is_not_swallowed() -> None:
    class Stop(BaseException):
        pass

    def handle(site: SiteId, request: Request) -> Contribution:
        raise Stop

    with pytest.raises(Stop):
        ask(FlowerLink(InProcessGrid(make_client_app(handle), sites=SITES)))


def test_site_that_is_not_there_gets_a_code(make_link: MakeLink) -> None:
    link, _ = make_link(Sites())
    replies = list(link.ask([request(SiteId("z")), request(SiteId("a"))]))
    assert {reply.site: reply.code for reply in replies} == {"a": "", "z": "FV-TRAN-000"}


def test_two_questions_to_one_site_at_once_are_a_slip(make_link: MakeLink) -> None:
    link, _ = make_link(Sites())
    with pytest.raises(ValueError, match="twice"):
        link.ask([request(SITES[0]), request(SITES[0])])


def test_no_question_no_answer(make_link: MakeLink) -> None:
    link, _ = make_link(Sites())
    assert list(link.ask([])) == []


def test_a_later_question_does_not_hear_an_earlier_answer(make_link: MakeLink) -> None:
    faults = iter([Fault.LOST])
    link, _ = make_link(Sites(), lambda _: next(faults, None))
    assert list(link.ask([request(SITES[0])])) == []
    (reply,) = link.ask([request(SITES[0], Action.HEALTH)])
    assert reply.action is Action.HEALTH


def test_a_lost_reply_was_worked_for_and_a_silent_site_never_asked(in_process: MakeLink) -> None:
    sites = Sites()
    link, _ = in_process(sites, lambda one: Fault.LOST if one.site == "a" else Fault.SILENT)
    assert ask(link) == []
    assert sites.asked == ["a"]


def test_damaged_values_reach_the_check_as_they_are(make_link: MakeLink) -> None:
    link, _ = make_link(Sites(), on("b", Fault.NON_FINITE))
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
