"""What sites see of proposals and say to them: only who was asked, under their own signature."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arithmetic_sites import INITIAL, SPECS
from asgi_client import AsgiClient
from server_parties import Consortium, Hospital
from starlette.applications import Starlette
from tiny import tiny_study

from fedvol.identity import Tag, open_body, write_moment
from fedvol.plan import NetworkDescription, Plan, state_digest
from fedvol.server.agreeing import (
    CONSENTS,
    PROPOSALS,
    RECEIPTS,
    AgreementDesk,
    agreement_routes,
)
from fedvol.server.proposing import run_proposal
from fedvol.server.server_state import ServerState
from fedvol.store import ContributionKey, Wanted
from fedvol.transport.network.calls import CallGuard
from fedvol.types import RunId, SiteId

pytestmark = pytest.mark.parametrize("consortium", ["sqlite", "postgresql"], indirect=True)

RUN = RunId("tiny-1")
NORTH, SOUTH = Hospital(name="north"), Hospital(name="south")


@pytest.fixture
def plan(state: ServerState, consortium: Consortium) -> Plan:
    """Both have joined; only north is asked."""
    consortium.join(state, NORTH, SOUTH)
    network = NetworkDescription(tensors=SPECS, initial_digest=state_digest(INITIAL))
    plan = Plan(software="0.1.0", study=tiny_study(), sites=("north",), network=network)
    proposal = run_proposal(RUN, plan=plan, key=state.key, operator="ada", now=datetime.now(UTC))
    state.store.agreements.propose(proposal)
    return plan


@pytest.fixture
def client(state: ServerState) -> AsgiClient:
    desk = AgreementDesk(state.store, sites=state.registry)
    return AsgiClient(Starlette(routes=agreement_routes(desk, CallGuard(state.registry))))


def get(client: AsgiClient, site: Hospital, path: str) -> tuple[int, Any]:
    answer = client.get(path, headers=site.call("GET", path))
    return answer.status_code, answer.json()


def say(client: AsgiClient, body: bytes, *, site: Hospital = NORTH) -> tuple[int, object]:
    headers = site.call("POST", CONSENTS, size_bytes=len(body))
    answer = client.post(CONSENTS, content=body, headers=headers)
    return answer.status_code, answer.json()


def test_a_site_sees_what_is_put_to_it(client: AsgiClient, plan: Plan, state: ServerState) -> None:
    status, listed = get(client, NORTH, PROPOSALS)
    answer = client.get(f"{PROPOSALS}/{RUN}", headers=NORTH.call("GET", f"{PROPOSALS}/{RUN}"))
    assert status == 200
    assert listed == {
        "proposals": [
            {
                "id": RUN,
                "kind": "run",
                "state": "open",
                "digest": plan.digest,
                "size_bytes": len(answer.content),
                "heard": "",
            }
        ]
    }
    told = open_body(answer.content, tag=Tag.PROPOSAL, signer=state.key.public, where="proposal")
    assert Plan.model_validate(told["plan"], strict=False).digest == plan.digest
    assert (told["run"], told["operator"], told["digest"]) == (RUN, "ada", plan.digest)
    assert "3 rounds of 3" in str(told["words"])
    assert plan.study.purpose in str(told["words"])


def test_another_site_sees_nothing_of_it(client: AsgiClient, plan: Plan) -> None:
    assert get(client, SOUTH, PROPOSALS) == (200, {"proposals": []})
    assert get(client, SOUTH, f"{PROPOSALS}/{RUN}") == (404, {"code": "FV-FED-007"})
    body = SOUTH.consent(RUN, plan.digest)
    assert say(client, body, site=SOUTH) == (404, {"code": "FV-FED-007"})


def test_a_site_says_its_word(client: AsgiClient, plan: Plan, state: ServerState) -> None:
    body = NORTH.consent(RUN, plan.digest)
    assert say(client, body) == (200, {"status": "recorded"})
    assert state.store.agreements.consenting(RUN) == ("north",)
    held = state.store.agreements.consents(RUN)[SiteId("north")]
    assert held.signed == body  # the proof of it
    assert say(client, NORTH.consent(RUN, plan.digest, "withdraw"))[0] == 200
    assert state.store.agreements.consenting(RUN) == ()


def test_words_that_do_not_count(client: AsgiClient, plan: Plan, state: ServerState) -> None:
    early = write_moment(datetime.now(UTC) - timedelta(hours=1))
    late = write_moment(datetime.now(UTC) + timedelta(hours=1))
    assert say(client, NORTH.consent(RUN, "0" * 64)) == (409, {"code": "FV-FED-003"})
    assert say(client, NORTH.consent(RUN, plan.digest, "maybe")) == (400, {"code": "FV-TRAN-001"})
    other = NORTH.consent(RUN, plan.digest, site="south")
    assert say(client, other) == (400, {"code": "FV-TRAN-001"})
    assert say(client, SOUTH.consent(RUN, plan.digest)) == (400, {"code": "FV-TRAN-012"})
    assert say(client, NORTH.consent(RUN, plan.digest, time=late)) == (409, {"code": "FV-FED-008"})
    assert say(client, NORTH.consent(RUN, plan.digest))[0] == 200
    older = NORTH.consent(RUN, plan.digest, "withdraw", time=early)
    assert say(client, older) == (409, {"code": "FV-FED-008"})
    assert state.store.agreements.consenting(RUN) == ("north",)
    _, listed = get(client, NORTH, PROPOSALS)
    assert [one["heard"] for one in listed["proposals"]] == ["approve"]
    state.store.agreements.want(RUN, Wanted.ENDED, by="")
    body = NORTH.consent(RUN, plan.digest, "refuse")
    assert say(client, body) == (409, {"code": "FV-FED-008"})


def test_calls_that_prove_nothing(client: AsgiClient, plan: Plan) -> None:
    refused = {"code": "FV-TRAN-009"}
    for path in (PROPOSALS, f"{PROPOSALS}/{RUN}", f"{RECEIPTS}/{RUN}"):
        assert client.get(path).status_code == 401
        assert client.get(path).json() == refused
        assert get(client, Hospital(name="north"), path) == (401, refused)
    headers = NORTH.call("GET", PROPOSALS)
    assert client.get(PROPOSALS, headers=headers).status_code == 200
    assert client.get(PROPOSALS, headers=headers).status_code == 401  # replayed
    body = NORTH.consent(RUN, plan.digest)
    short = client.post(CONSENTS, content=body, headers=NORTH.call("POST", CONSENTS))
    assert (short.status_code, short.json()) == (401, refused)


def test_a_site_fetches_its_own_receipts(
    client: AsgiClient, plan: Plan, state: ServerState
) -> None:
    for site in ("north", "south"):
        key = ContributionKey(run=RUN, stage=0, round=1, site=SiteId(site))
        state.store.agreements.put_receipt(key, f"receipt of {site}".encode())
    assert get(client, NORTH, f"{RECEIPTS}/{RUN}") == (200, {"receipts": ["receipt of north"]})
    assert get(client, NORTH, f"{RECEIPTS}/other") == (200, {"receipts": []})
