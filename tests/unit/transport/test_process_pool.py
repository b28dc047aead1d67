"""A worker that dies, hangs or does not start costs its own messages, and never the parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
from tiny import Events
from worker_sites import FAILING_KEY, SITES, open_app, open_nothing, request

from fedvol.errors import EngineError
from fedvol.federation import Action, Link, Reply
from fedvol.transport import FlowerLink, ProcessPool, WorkerGrid
from fedvol.types import Json, SiteId

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


class Full:
    """An observer whose disk is full."""

    def event(self, name: str, /, **fields: Json) -> None:
        raise OSError(28, "No space left on device")


def test_an_observer_that_fails_is_not_taken_for_a_dead_worker() -> None:
    pool = ProcessPool(open_app, num_workers=1, observer=Full())
    link, told = link_over(pool)
    with pytest.raises(OSError, match="No space left"):
        ask(link)
    assert told == []
    pool.close()


def test_a_machine_without_room_for_another_process(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = SpawnProcess.start, []

    def second_fails(process: SpawnProcess) -> None:
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(process)
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", second_fails)
    with pytest.raises(EngineError, match="process 2 does not start: Resource temporarily"):
        ProcessPool(open_app, num_workers=3, observer=events)
    assert not multiprocessing.active_children()


PARENT = """
import signal
from worker_sites import FAILING_KEY, SITES, open_app, request
from fedvol.telemetry import Broadcast
from fedvol.transport import FlowerLink, ProcessPool, WorkerGrid

pool = ProcessPool(open_app, num_workers=2, observer=Broadcast(()))
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("started", flush=True)
hangs = {"b": {FAILING_KEY: "hangs"}}
grid = WorkerGrid(pool, sites=SITES, node_config=hangs, on_failure=print)
replies = FlowerLink(grid).ask([request(site) for site in SITES])
print(*sorted([next(replies).site, next(replies).site]), flush=True)
next(replies)
"""
"""In the end one of its workers is idle, and one in the midst of a message."""


def test_ctrl_c_is_the_parents_and_no_worker_survives_its_death() -> None:
    tests = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "started\n"
            os.killpg(parent.pid, signal.SIGINT)  # as a terminal does; the workers load libraries
            assert parent.stdout.readline() == "a c\n"
            parent.kill()
            # Workers hold these pipes as well, so this ends when the last of them has.
            assert parent.communicate(timeout=20) == ("", "")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
