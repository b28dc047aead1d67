"""What sites tell of a training: only who was asked, under their own signature, not too often."""

from datetime import UTC, datetime

import pytest
from arithmetic_sites import INITIAL, SPECS
from asgi_client import AsgiClient
from server_parties import Consortium, Hospital
from starlette.applications import Starlette
from tiny import tiny_study

from fedvol.plan import NetworkDescription, Plan, state_digest
from fedvol.server.progress import PROGRESS, ProgressDesk, progress_routes
from fedvol.server.proposing import run_proposal
from fedvol.server.server_state import ServerState
from fedvol.transport.network.calls import CallGuard
from fedvol.types import RunId, SiteId

RUN, SITE = RunId("tiny-1"), SiteId("north")
NORTH, SOUTH = Hospital(name="north"), Hospital(name="south")


class World:
    """A server to which north and south may talk, and a run that was proposed to north alone."""

    def __init__(self, state: ServerState) -> None:
        network = NetworkDescription(tensors=SPECS, initial_digest=state_digest(INITIAL))
        self.plan = Plan(software="0.1.0", study=tiny_study(), sites=("north",), network=network)
        state.store.agreements.propose(
            run_proposal(RUN, plan=self.plan, key=state.key, operator="ada", now=datetime.now(UTC))
        )
        self.clock_s = 100.0
        self.desk = ProgressDesk(
            state.store, sites=state.registry, monotonic_s=lambda: self.clock_s
        )
        routes = progress_routes(self.desk, CallGuard(state.registry))
        self.client = AsgiClient(Starlette(routes=routes))

    def tell(self, body: bytes, *, site: Hospital = NORTH) -> tuple[int, object]:
        headers = site.call("POST", PROGRESS, size_bytes=len(body))
        answer = self.client.post(PROGRESS, content=body, headers=headers)
        return answer.status_code, answer.json().get("code")


@pytest.fixture
def world(state: ServerState, consortium: Consortium) -> World:
    consortium.join(state, NORTH, SOUTH)
    return World(state)


def test_the_last_report_is_held_and_grows_old(world: World) -> None:
    assert world.tell(NORTH.progress(RUN, world.plan.digest)) == (200, None)
    world.clock_s += 5
    assert world.tell(NORTH.progress(RUN, world.plan.digest, step=33, step_s=2)) == (200, None)
    told = world.desk.training(RUN, SITE)
    assert told is not None
    assert (told.report.step, told.left_s, told.is_stale) == (33, 174.0, False)
    assert world.desk.training(RunId("other"), SITE) is None
    world.clock_s += 300
    told = world.desk.training(RUN, SITE)
    assert told is not None
    assert (told.age_s, told.left_s, told.is_stale) == (300.0, 0.0, True)


def test_who_tells_too_often_is_not_heard(world: World) -> None:
    assert world.tell(NORTH.progress(RUN, world.plan.digest)) == (200, None)
    world.clock_s += 0.5
    assert world.tell(NORTH.progress(RUN, world.plan.digest, step=32)) == (429, "FV-TRAN-028")
    told = world.desk.training(RUN, SITE)
    assert told is not None
    assert told.report.step == 31


def test_reports_that_do_not_count(world: World) -> None:
    digest = world.plan.digest
    assert world.tell(SOUTH.progress(RUN, digest), site=SOUTH) == (404, "FV-FED-007")
    assert world.tell(NORTH.progress("other", digest)) == (404, "FV-FED-007")
    assert world.tell(NORTH.progress(RUN, "0" * 64)) == (409, "FV-FED-003")
    assert world.tell(SOUTH.progress(RUN, digest)) == (400, "FV-TRAN-012")
    for wrong in ({"site": "south"}, {"step": 121}, {"loss": 0.5}, {"round": -1}, {"step_s": -1}):
        assert world.tell(NORTH.progress(RUN, digest, **wrong)) == (400, "FV-TRAN-001"), wrong
    body = NORTH.progress(RUN, digest)
    short = world.client.post(PROGRESS, content=body, headers=NORTH.call("POST", PROGRESS))
    assert short.status_code == 401
    assert world.tell(body + b" " * 5000)[0] == 413
    assert world.desk.training(RUN, SITE) is None
