"""A worker that dies, hangs or does not start costs its own messages, and never the parent."""

import multiprocessing
import os
import signal
import time
from collections.abc import Generator

import pytest
from tiny import Events
from worker_sites import FAILING_KEY, SITES, open_app, open_nothing, request

from fedvol.federation import Action, Link, Reply
from fedvol.transport import FlowerLink, ProcessPool, WorkerGrid
from fedvol.types import SiteId

Told = list[tuple[SiteId, str]]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def pool(events: Events) -> Generator[ProcessPool]:
    pool = ProcessPool(open_app, num_workers=2, observer=events, grace_s=0.5)
    yield pool
    pool.close()


def link_over(pool: ProcessPool, **failing: str) -> tuple[Link, Told]:
    told: Told = []
    grid = WorkerGrid(
        pool,
        sites=SITES,
        node_config={SiteId(site): {FAILING_KEY: name} for site, name in failing.items()},
        on_failure=lambda site, what: told.append((site, what)),
    )
    return FlowerLink(grid), told


def ask(link: Link, *, limit_s: float = 60.0) -> dict[str, Reply]:
    requests = [request(site, Action.HEALTH, limit_s=limit_s) for site in SITES]
    return {reply.site: reply for reply in link.ask(requests)}


def codes(replies: dict[str, Reply]) -> dict[str, str]:
    return {site: reply.code for site, reply in replies.items()}


def test_a_site_keeps_its_worker_and_the_workers_share_the_sites(
    pool: ProcessPool, events: Events
) -> None:
    link, _ = link_over(pool)
    for _ in range(3):
        assert codes(ask(link)) == {"a": "", "b": "", "c": ""}
    seen = [(event["site"], event["worker"], event["process"]) for event in events.named("asked")]
    assert len(seen) == 9
    assert len(set(seen)) == 3  # every time the same
    assert {process for _, _, process in seen} == set(pool.processes)
    assert os.getpid() not in pool.processes


def test_a_worker_that_dies_answers_for_every_site_it_has(pool: ProcessPool) -> None:
    link, told = link_over(pool, a="dies")
    gone = {"a": "FV-TRAN-000", "b": "", "c": "FV-TRAN-000"}
    assert codes(ask(link)) == gone  # c was waiting behind a
    assert sorted(told) == [
        ("a", "its process ended with status 3"),
        ("c", "its process ended with status 3"),
    ]
    assert codes(ask(link)) == gone  # and it stays so, at once


def test_a_worker_that_is_killed_while_idle(pool: ProcessPool) -> None:
    link, told = link_over(pool)
    ask(link)
    for process in pool.processes:
        os.kill(process, signal.SIGKILL)
    assert set(codes(ask(link)).values()) == {"FV-TRAN-000"}
    assert {what for _, what in told} == {
        "its process was ended by SIGKILL, as when memory runs out"
    }


def test_a_worker_that_hangs_is_ended_after_its_limit(pool: ProcessPool) -> None:
    link, told = link_over(pool, b="hangs")
    ask(FlowerLink(WorkerGrid(pool, sites=SITES[:1], on_failure=lambda site, what: None)))
    began = time.monotonic()
    assert codes(ask(link, limit_s=1.0)) == {"a": "", "b": "FV-TRAN-000", "c": ""}
    assert time.monotonic() - began < 20
    assert told == [("b", "its process passed the limit and was ended")]


def test_workers_that_do_not_start(events: Events, capfd: pytest.CaptureFixture[str]) -> None:
    pool = ProcessPool(open_nothing, num_workers=2, observer=events)
    link, told = link_over(pool)
    assert set(codes(ask(link)).values()) == {"FV-TRAN-000"}
    assert {what for _, what in told} == {
        "its process ended with status 1 before it was ready: see its last words above"
    }
    assert "no such library" in capfd.readouterr().err
    pool.close()


def test_closing_leaves_nobody_behind_even_in_the_midst_of_work(pool: ProcessPool) -> None:
    link, _ = link_over(pool, b="hangs")
    replies = link.ask([request(site) for site in SITES])
    assert {next(iter(replies)).site, next(iter(replies)).site} == {"a", "c"}
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 5
    assert not multiprocessing.active_children()
