"""How hospitals join: each refusal has its own code, and says no more than that."""

from datetime import UTC, datetime, timedelta

import pytest
from asgi_client import AsgiClient
from httpx import Response
from server_parties import Consortium, Hospital, invitation_line
from starlette.applications import Starlette

from fedvol.errors import TooManyCallsError
from fedvol.identity import IdentityKey, Invitation, SignedBody, SiteStatus, site_fingerprint
from fedvol.server.calls import Throttle, caller_address
from fedvol.server.joining import EACH, ENROL, ROSTER, EnrolmentDesk, joining_routes
from fedvol.server.server_state import ServerState
from fedvol.store import SiteStanding
from fedvol.types import SiteId


@pytest.fixture
def client(state: ServerState) -> AsgiClient:
    return AsgiClient(Starlette(routes=joining_routes(state.store, EnrolmentDesk(state.store))))


@pytest.fixture
def north() -> Hospital:
    return Hospital(name="north")


def token(state: ServerState, site: str = "north") -> str:
    return Invitation.parse(invitation_line(state, site)).token


def roster(client: AsgiClient, site: Hospital) -> Response:
    return client.get(ROSTER, headers=site.call("GET", ROSTER))


def refusal(client: AsgiClient, body: bytes) -> tuple[int, str]:
    answer = client.post(ENROL, content=body)
    assert set(answer.json()) == {"code"}
    return answer.status_code, answer.json()["code"]


def test_a_hospital_enrols_and_the_root_signs(
    client: AsgiClient, state: ServerState, consortium: Consortium, north: Hospital
) -> None:
    answer = client.post(ENROL, content=north.enrolment(token(state)))
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "waiting",
        "fingerprint": site_fingerprint(
            "north", identity=north.identity.public, node=north.node.public
        ),
    }
    assert state.registry.active() == ()
    assert roster(client, north).status_code == 404
    signed = consortium.sign_roster(state)
    put = state.registry.put(signed, where="roster", by="operator")
    assert [(one.site, one.status) for one in put.sites] == [("north", SiteStatus.ACTIVE)]
    assert state.registry.active() == ("north",)
    assert state.registry.identity(SiteId("north")) == north.identity.public
    assert roster(client, north).content == signed


def test_the_roster_is_for_sites_that_enrolled(
    client: AsgiClient, state: ServerState, consortium: Consortium, north: Hospital
) -> None:
    consortium.join(state, north)
    stranger = Hospital(name="south")
    thief = Hospital(name="north")
    for headers in (
        None,
        stranger.call("GET", ROSTER),
        thief.call("GET", ROSTER),
        north.call("GET", "/fedvol/v1/proposals"),
    ):
        answer = client.get(ROSTER, headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"code": "FV-TRAN-009"})
    # Both read it that have keys of the site: those that hold, and those that wait for the root.
    client.post(ENROL, content=thief.enrolment(token(state)))
    assert roster(client, north).status_code == roster(client, thief).status_code == 200
    # Who was turned away sees that it was.
    state.store.sites.want(SiteId("north"), SiteStanding.REVOKED)
    state.registry.put(consortium.sign_roster(state), where="roster", by="operator")
    assert roster(client, thief).content == state.store.sites.roster()


def test_a_token_that_was_used(client: AsgiClient, state: ServerState, north: Hospital) -> None:
    used = token(state)
    assert client.post(ENROL, content=north.enrolment(used)).status_code == 200
    assert client.post(ENROL, content=north.enrolment(used)).status_code == 200  # answer was lost
    other = Hospital(name="north")
    assert refusal(client, other.enrolment(used)) == (403, "FV-TRAN-026")


def test_a_token_that_is_unknown_or_replaced(
    client: AsgiClient, state: ServerState, north: Hospital
) -> None:
    assert refusal(client, north.enrolment("0" * 64)) == (403, "FV-TRAN-024")
    old = token(state)
    token(state)
    assert refusal(client, north.enrolment(old)) == (403, "FV-TRAN-024")


def test_a_token_that_is_damaged(client: AsgiClient, state: ServerState, north: Hospital) -> None:
    assert refusal(client, north.enrolment(token(state)[:-1])) == (403, "FV-TRAN-022")


def test_a_token_of_another_site(client: AsgiClient, state: ServerState) -> None:
    body = Hospital(name="south").enrolment(token(state, "north"))
    assert refusal(client, body) == (403, "FV-TRAN-027")


def test_a_token_that_is_too_old(state: ServerState, north: Hospital) -> None:
    late = EnrolmentDesk(state.store, now=lambda: datetime.now(UTC) + timedelta(days=15))
    client = AsgiClient(Starlette(routes=joining_routes(state.store, late)))
    assert refusal(client, north.enrolment(token(state))) == (403, "FV-TRAN-023")


def test_a_signature_of_another_key(
    client: AsgiClient, state: ServerState, north: Hospital
) -> None:
    body = north.enrolment(token(state), signer=IdentityKey.generate())
    assert refusal(client, body) == (400, "FV-TRAN-012")


def test_nothing_is_read_before_the_signature_held(
    client: AsgiClient, state: ServerState, north: Hospital
) -> None:
    """Of a malformed payload under a signature that does not hold, the signature is told."""
    signed = SignedBody.parse(north.enrolment(token(state), more="x"), where="test")
    changed = signed.model_copy(update={"payload": signed.payload.replace("north", "south")})
    assert refusal(client, changed.to_bytes()) == (400, "FV-TRAN-012")
    assert refusal(client, signed.to_bytes()) == (400, "FV-TRAN-001")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"\xff" * 10, b"[" * 60_000, b'{"payload":"{}","signer":"","signature":""}'],
)
def test_what_is_no_enrolment(client: AsgiClient, body: bytes) -> None:
    assert refusal(client, body) == (400, "FV-TRAN-001")


def test_a_field_too_many(client: AsgiClient, state: ServerState, north: Hospital) -> None:
    assert refusal(client, north.enrolment(token(state), more="x")) == (400, "FV-TRAN-001")


def test_a_body_that_is_too_large(client: AsgiClient) -> None:
    assert refusal(client, b"x" * (65 << 10)) == (413, "FV-TRAN-030")


def test_too_many_attempts_lock_out_their_own_address_alone(
    client: AsgiClient, state: ServerState, north: Hospital
) -> None:
    wrong = north.enrolment("0" * 64)
    for _ in range(EACH):
        assert refusal(client, wrong) == (403, "FV-TRAN-024")
    body = north.enrolment(token(state))
    assert refusal(client, body) == (429, "FV-TRAN-028")
    assert client.request("POST", ENROL, content=body, address="192.0.2.7").status_code == 200


def test_a_throttle_counts_each_and_all_and_forgets() -> None:
    time_s = 0.0
    throttle = Throttle(each=2, together=5, period_s=60.0, now_s=lambda: time_s)

    def admitted(*addresses: str) -> list[bool]:
        found: list[bool] = []
        for one in addresses:
            try:
                throttle.admit(one)
            except TooManyCallsError:
                found.append(False)
            else:
                found.append(True)
        return found

    assert admitted("a", "a", "a", "b") == [True, True, False, True]
    time_s = 59.0
    # What was refused is not counted, so whoever is refused locks nobody out.
    assert admitted(*["a"] * 10, "b", "c", "d") == [*[False] * 10, True, True, False]
    time_s = 60.0  # the first three are over
    assert admitted("a", "a", "b", "b") == [True, True, True, False]
    time_s = 1000.0
    assert admitted("e") == [True]
    assert len(throttle._of) == 1


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", ""),
    ],
)
def test_a_caller_is_known_by_its_address(given: str, known: str) -> None:
    assert caller_address({"client": (given, 1)}) == known
    assert caller_address({"client": None}) == ""


def test_new_keys_wait_for_the_root(
    client: AsgiClient, state: ServerState, consortium: Consortium, north: Hospital
) -> None:
    consortium.join(state, north)
    newer = Hospital(name="north")
    assert client.post(ENROL, content=newer.enrolment(token(state))).status_code == 200
    assert state.registry.identity(SiteId("north")) == north.identity.public
    state.registry.put(consortium.sign_roster(state), where="roster", by="operator")
    assert state.registry.identity(SiteId("north")) == newer.identity.public


def test_a_suspended_site_is_out_at_once_and_in_the_next_draft(
    state: ServerState, consortium: Consortium, north: Hospital
) -> None:
    consortium.join(state, north)
    state.store.sites.want(SiteId("north"), SiteStanding.SUSPENDED)
    assert state.registry.identity(SiteId("north")) is None
    assert state.registry.nodes() == {}
    assert state.registry.draft().sites[0].status is SiteStatus.SUSPENDED


def test_invited_anew_what_was_revoked_stays_out(
    client: AsgiClient, state: ServerState, consortium: Consortium, north: Hospital
) -> None:
    """Its old keys may be in a thief's hands: only the root's word lets the site in again."""
    consortium.join(state, north)
    held = state.store.sites.roster()
    assert held is not None
    state.store.sites.want(SiteId("north"), SiteStanding.REVOKED)
    anew = Hospital(name="north")
    assert client.post(ENROL, content=anew.enrolment(token(state))).status_code == 200
    assert state.registry.active() == ()
    state.registry.put(held, where="roster", by="operator")  # the same roster, brought again
    assert state.registry.active() == ()
    state.registry.put(consortium.sign_roster(state), where="roster", by="operator")
    assert state.registry.identity(SiteId("north")) == anew.identity.public
