"""What a site tells of its training: the step and the pace, where it agreed and may be told."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hospital import Server, joined, now, plain_plan, syncing
from tiny import Events, tiny_study

from fedvol.audit import AuditLog, verify_log
from fedvol.errors import LinkDownError
from fedvol.identity import Tag, open_body
from fedvol.site import Answering, SiteFolder, pause
from fedvol.site.progress import RETRY_S, ProgressTeller
from fedvol.store import SiteStore
from fedvol.transport.network.site_calls import Answer


@dataclass
class World:
    """A site that approved run `p1`; what it tells is kept."""

    held: SiteFolder
    store: SiteStore
    audit: AuditLog
    plan: str
    clock_s: float = 0.0
    told: list[dict[str, Any]] = field(default_factory=list)
    events: Events = field(default_factory=Events)
    status: int = 200
    is_down: bool = False

    def __post_init__(self) -> None:
        self.teller = ProgressTeller(
            self.held,
            self.store,
            self,
            audit=self.audit,
            observer=self.events,
            monotonic_s=lambda: self.clock_s,
        )

    def progress(self, body: bytes) -> Answer:
        if self.is_down:
            raise LinkDownError("server", "it is away", "Wait.")
        signer = self.held.identity().public
        self.told.append(open_body(body, tag=Tag.PROGRESS, signer=signer, where="progress"))
        code = "" if self.status == 200 else "FV-TRAN-028"
        return Answer(status=self.status, code=code, body=b"", date="")

    def step(self, step: int, *, at_s: float, in_round: int = 1) -> None:
        self.clock_s = at_s
        self.teller.event(
            "site.training",
            site="x",
            run="p1",
            stage=0,
            round=in_round,
            step=step,
            steps=9,
            loss=0.5,
        )
        self.teller.once()

    def lines(self) -> list[dict[str, Any]]:
        text = self.held.audit_file.read_text()
        events = [json.loads(line)["event"] for line in text.splitlines()]
        return [one for one in events if one["kind"] == "progress"]


@pytest.fixture
def world(tmp_path: Path):
    server = Server(folder=tmp_path / "server")
    with server.listening():
        held = joined(tmp_path / "site", server)
        held.config_file.write_text(held.config_file.read_text() + SOURCE)
        plan = plain_plan(tiny_study())
        server.propose("p1", plan)
        with syncing(held) as sync:
            sync.once()
    with SiteStore(held.store_file) as store:
        answering = Answering(folder=held, store=store, key=held.identity())
        answering.approve("p1", by="ann", reason="", source=None, now=now())
        with AuditLog(held.audit_file, signer=held.identity()) as audit:
            yield World(held, store, audit, plan.digest)


SOURCE = '\n[[data]]\nname = "ct"\nfolder = "/volumes"\nchannels = ["CT"]\n'


def test_it_tells_step_and_pace_and_nothing_else(world: World) -> None:
    world.step(3, at_s=10)
    world.step(5, at_s=15)
    assert world.told[-1] == {
        "run": "p1",
        "plan": world.plan,
        "site": world.held.config().site,
        "stage": 0,
        "round": 1,
        "step": 5,
        "steps": 9,
        "step_s": 2.5,
    }
    assert world.told[0]["step_s"] is None
    world.step(1, at_s=20, in_round=2)
    assert world.told[-1]["step_s"] is None
    assert [(one["round"], one["recipient"]) for one in world.lines()] == [
        (1, "server"),
        (2, "server"),
    ]
    assert all(one["consent"] and one["size_bytes"] for one in world.lines())
    verify_log(world.held.audit_file)


def test_it_tells_nothing_once_the_training_is_over(world: World) -> None:
    assert not world.teller.wait(0.0)
    world.step(3, at_s=10)
    assert world.teller.wait(0.0)
    world.teller.once()
    assert len(world.told) == 2  # it is still there
    world.teller.event("site.answered", run="p1")
    assert not world.teller.wait(0.0)
    world.teller.once()
    assert len(world.told) == 2


def test_whoever_waits_hears_of_a_training_however_short(world: World) -> None:
    assert not world.teller.wait(0.0)
    for step in (1, 2):
        world.teller.event("site.training", run="p1", stage=0, round=1, step=step, steps=2)
    world.teller.event("site.answered", run="p1")
    assert world.teller.wait(0.0)
    world.teller.once()
    assert [(one["step"], one["steps"]) for one in world.told] == [(1, 2)]
    assert not world.teller.wait(0.0)
    world.teller.once()
    assert len(world.told) == 1


def test_a_site_may_keep_it_to_itself(world: World) -> None:
    file = world.held.config_file
    text = file.read_text()
    file.write_text(text.replace("[policy]", "[policy]\ntell_progress = false"))
    assert not world.held.config().policy.tell_progress
    world.step(3, at_s=10)
    assert not world.told
    file.write_text(text.replace("[policy]", "[policy]\nmax_rounds = 1"))
    world.step(3, at_s=15)
    assert not world.told  # the policy forbids the run by now
    file.write_text(text)
    pause(world.held, by="ann", reason="", now=now())
    world.step(4, at_s=20)
    assert not world.told
    assert not world.lines()


def test_it_tells_nothing_of_a_run_whose_approval_is_gone(world: World) -> None:
    answering = Answering(folder=world.held, store=world.store, key=world.held.identity())
    answering.withdraw("p1", by="ann", reason="", now=now())
    world.step(3, at_s=10)
    assert not world.told


def test_a_server_that_does_not_take_it_is_left_alone_for_a_while(world: World) -> None:
    world.is_down = True
    world.step(3, at_s=10)
    world.is_down = False
    world.step(4, at_s=15)
    assert not world.told
    world.status = 429
    world.step(5, at_s=11 + RETRY_S)
    world.step(6, at_s=12 + RETRY_S)
    assert [one["step"] for one in world.told] == [5]
    codes = [fields["code"] for fields in world.events.named("progress.untold")]
    assert codes == ["FV-TRAN-003", "FV-TRAN-028"]
