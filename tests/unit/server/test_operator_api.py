"""The operators' interface: a token, a role, and a record of every action."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from arithmetic_sites import INITIAL, SPECS
from asgi_client import AsgiClient
from case_facts import OPEN_STUDY
from server_parties import Consortium, Hospital
from tiny import tiny_study

from fedvol.audit import AuditLog, verify_log
from fedvol.config import OpenStudy
from fedvol.config.loading import parse_open_study
from fedvol.errors import DiskFullError, UsageError
from fedvol.federation import RoundState, SiteState
from fedvol.identity import Invitation
from fedvol.plan import NetworkDescription, Plan, Proposal, state_digest
from fedvol.server.audited_actions import AuditedActions
from fedvol.server.operator_api import operator_app
from fedvol.server.operator_desk import OperatorDesk
from fedvol.server.progress import ProgressDesk
from fedvol.server.run_desk import RunDesk
from fedvol.server.server_state import ServerState
from fedvol.store import ConsentRecord, Decision, Role, SiteRound, write_state
from fedvol.types import Digest, RunId, SiteId, State

PREFIX = "/fedvol/operator/v1/"
STUDY = tiny_study(more="\n[federation]\nmin_sites = 1\n")
READS = ["status", "sites", "runs", "roster/draft"]
WRITES = [
    ("PUT", "users/bob"),
    ("DELETE", "users/operator"),
    ("POST", "sites/north/invite"),
    ("POST", "sites/north/suspend"),
    ("POST", "sites/north/resume"),
    ("POST", "sites/north/remove"),
    ("PUT", "roster"),
    ("PUT", "runs/tiny-1/initial"),
    ("POST", "runs/tiny-1/propose"),
    ("POST", "runs/tiny-1/fingerprint"),
    ("POST", "runs/tiny-1/start"),
    ("POST", "runs/tiny-1/pause"),
    ("POST", "runs/tiny-1/resume"),
    ("POST", "runs/tiny-1/stop"),
]


class Api:
    def __init__(self, state: ServerState, token: str) -> None:
        self.state, self.token = state, token
        self.changes = 0
        self.at_change: Callable[[], None] | None = None
        self.clock_s = 0.0
        self.progress = ProgressDesk(
            state.store, sites=state.registry, monotonic_s=lambda: self.clock_s
        )
        audit = AuditLog(state.folder.audit)
        self.client = AsgiClient(
            operator_app(
                OperatorDesk(
                    state, audit=audit, online=lambda: (SiteId("north"),), changed=self.changed
                ),
                RunDesk(
                    state,
                    online=lambda: (SiteId("north"),),
                    training=self.progress.training,
                ),
                users=state.store.people.user_of,
                actions=AuditedActions(state.store, audit),
                status=lambda: {"version": "0"},
            )
        )

    def changed(self) -> None:
        self.changes += 1
        if self.at_change is not None:
            self.at_change()

    def call(
        self, method: str, path: str, content: Any = b"", *, token: str | None = None
    ) -> tuple[int, Any]:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        answer = self.client.request(method, PREFIX + path, content=data, headers=headers)
        return answer.status_code, answer.json()

    def done(self, method: str, path: str, content: Any = b"") -> Any:
        status, body = self.call(method, path, content)
        assert status == 200, body
        return body

    def actions(self) -> list[tuple[str, str, str, str]]:
        return [
            (one.user, one.action, one.subject, one.outcome)
            for one in self.state.store.people.actions()
        ]


@pytest.fixture
def api(state: ServerState, consortium: Consortium) -> Api:
    return Api(state, consortium.token)


def plan_for(*sites: str) -> Plan:
    network = NetworkDescription(tensors=SPECS, initial_digest=state_digest(INITIAL))
    return Plan(software="0.1.0", study=STUDY, sites=sites, network=network)


def bring(api: Api, run: str, state: State) -> None:
    file = api.state.folder.folder / "brought.safetensors"
    write_state(file, state.items(), metadata={})
    api.done("PUT", f"runs/{run}/initial", file.read_bytes())


@pytest.mark.parametrize("token", ["", "0" * 64, "Bearer"])
def test_without_a_token_nothing_is_answered(api: Api, token: str) -> None:
    for method, path in [*(("GET", read) for read in READS), *WRITES]:
        status, body = api.call(method, path, token=token)
        assert (status, body["code"]) == (401, "FV-TRAN-029"), path
    # Strangers are counted elsewhere: they fill neither table nor log.
    assert [one[1] for one in api.actions()] == ["server init"]
    assert api.state.folder.audit.read_bytes() == b""


@pytest.mark.parametrize("role", [Role.OBSERVER, Role.AUDITOR])
def test_who_only_looks_changes_nothing(api: Api, role: Role) -> None:
    token = api.done("PUT", "users/eve", {"role": role.value})["token"]
    for read in READS:
        assert api.call("GET", read, token=token)[0] == 200, read
    for method, path in WRITES:
        status, body = api.call(method, path, token=token)
        assert (status, body["code"]) == (403, "FV-TRAN-029"), path
    wanted = 200 if role is Role.AUDITOR else 403
    assert api.call("GET", "actions", token=token)[0] == wanted
    assert api.call("GET", "users", token=token)[0] == wanted


def test_what_is_done_is_recorded_under_its_user(api: Api) -> None:
    made = api.done("PUT", "users/ada", {"role": "operator"})
    api.token = made["token"]
    line = api.done("POST", "sites/north/invite")["line"]
    assert Invitation.parse(line).site == "north"
    api.call("POST", "sites/south/suspend")
    api.done("DELETE", "users/operator")
    assert api.actions()[1:] == [
        ("operator", "add_user", "ada", "done"),
        ("ada", "invite", "north", "done"),
        ("ada", "suspend_site", "south", "FV-CONF-004"),
        ("ada", "remove_user", "operator", "done"),
    ]
    assert verify_log(api.state.folder.audit).records == 8
    told = json.dumps(api.done("GET", "actions")) + api.state.folder.audit.read_text()
    assert made["token"] not in told
    assert line not in told


def deeds(api: Api) -> list[tuple[Any, ...]]:
    """What the audit log tells of deeds, and which line belongs to which."""
    lines = [json.loads(line) for line in api.state.folder.audit.read_text().splitlines()]
    names = ("kind", "user", "action", "subject", "code")
    told = [line["event"] for line in lines if line["event"]["kind"].startswith("operator")]
    calls = list(dict.fromkeys(one["call"] for one in told))
    return [
        (calls.index(one["call"]), *(one[name] for name in names if name in one)) for one in told
    ]


def test_a_deed_stands_in_the_log_before_it_is_done_and_then_how_it_ended(
    api: Api, consortium: Consortium
) -> None:
    consortium.join(api.state, Hospital(name="north"))
    stood: list[tuple[Any, ...]] = []
    api.at_change = lambda: stood.extend(deeds(api))
    api.done("POST", "sites/north/suspend")
    assert stood == [(0, "operator", "operator", "suspend_site", "north")]
    api.at_change = None
    api.call("POST", "sites/south/suspend")
    assert deeds(api)[1:] == [
        (0, "operator_outcome", "operator", "suspend_site", "north", ""),
        (1, "operator", "operator", "suspend_site", "south"),
        (1, "operator_outcome", "operator", "suspend_site", "south", "FV-CONF-004"),
    ]


class KilledError(BaseException):
    """Stands for the end of the process."""


def test_killed_after_its_effect_a_deed_is_in_log_and_table(
    api: Api, consortium: Consortium
) -> None:
    consortium.join(api.state, Hospital(name="north"))

    def die() -> None:
        raise KilledError

    api.at_change = die
    with pytest.raises(KilledError):
        api.call("POST", "sites/north/suspend")
    assert api.state.registry.active() == ()
    assert deeds(api) == [(0, "operator", "operator", "suspend_site", "north")]
    assert api.actions()[-1] == ("operator", "suspend_site", "north", "begun")


def test_a_fault_of_ours_is_its_outcome(api: Api, consortium: Consortium) -> None:
    consortium.join(api.state, Hospital(name="north"))

    def fail() -> None:
        raise ZeroDivisionError

    api.at_change = fail
    with pytest.raises(ZeroDivisionError):
        api.call("POST", "sites/north/suspend")
    assert deeds(api)[-1][-1] == "fault"
    assert api.actions()[-1][-1] == "fault"


def test_what_cannot_be_written_down_is_not_done(api: Api, consortium: Consortium) -> None:
    consortium.join(api.state, Hospital(name="north"))
    api.done("POST", "sites/north/resume")
    api.state.folder.audit.write_text("torn away\n")
    status, told = api.call("POST", "sites/north/suspend")
    assert (status, told["code"]) == (400, "FV-PRIV-004")
    assert api.state.registry.active() == ("north",)


def test_what_is_done_and_cannot_be_written_down_says_so(api: Api, consortium: Consortium) -> None:
    consortium.join(api.state, Hospital(name="north"))

    def tear() -> None:
        api.state.folder.audit.write_text("torn away\n")

    api.at_change = tear
    status, told = api.call("POST", "sites/north/suspend")
    assert (status, told["code"]) == (400, "FV-PRIV-004")
    assert told["what"].startswith("suspend_site is done, but its outcome could not be written")
    assert api.state.registry.active() == ()
    assert api.actions()[-1] == ("operator", "suspend_site", "north", "begun")


def test_why_it_was_not_done_is_told_even_if_it_cannot_be_written_down(
    api: Api, consortium: Consortium
) -> None:
    consortium.join(api.state, Hospital(name="north"))

    def fail() -> None:
        api.state.folder.audit.write_text("torn away\n")
        raise UsageError("site north", "it is busy", "Wait.")

    api.at_change = fail
    status, told = api.call("POST", "sites/north/suspend")
    assert (status, told["code"], told["what"]) == (400, "FV-CONF-004", "it is busy")


def test_what_the_table_cannot_hold_is_not_done_and_the_log_says_so(
    api: Api, consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium.join(api.state, Hospital(name="north"))

    def fail(*_: object, **__: object) -> None:
        raise DiskFullError("federation.db", "no space is left", "Free some.")

    monkeypatch.setattr(type(api.state.store.people), "record", fail)
    api.call("POST", "sites/north/suspend")
    assert api.state.registry.active() == ("north",)
    assert deeds(api) == [
        (0, "operator", "operator", "suspend_site", "north"),
        (0, "operator_outcome", "operator", "suspend_site", "north", DiskFullError.code),
    ]


def test_killed_while_a_roster_is_put_the_log_tells_of_it(
    api: Api, consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium.join(api.state, Hospital(name="north"))
    signed = consortium.sign_roster(api.state)

    def die(*_: object, **__: object) -> None:
        raise KilledError

    monkeypatch.setattr(type(api.state.store.sites), "put_roster", die)
    with pytest.raises(KilledError):
        api.call("PUT", "roster", signed)
    assert '"kind":"roster"' in api.state.folder.audit.read_text()


def test_a_removed_user_is_let_in_no_more(api: Api) -> None:
    token = api.done("PUT", "users/eve", {"role": "observer"})["token"]
    api.done("DELETE", "users/eve")
    assert api.call("GET", "status", token=token)[0] == 401


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"role": 1}', b'{"role": "operator", "more": "x"}', b"[" * 5000]
)
def test_a_malformed_body(api: Api, body: bytes) -> None:
    status, told = api.call("PUT", "users/ada", body)
    assert (status, told["code"]) == (400, "FV-TRAN-001")


def test_a_role_that_is_none(api: Api) -> None:
    status, told = api.call("PUT", "users/ada", {"role": "root"})
    assert (status, told["code"]) == (400, "FV-CONF-004")


def test_a_roster_is_drafted_and_put(api: Api, consortium: Consortium) -> None:
    consortium.join(api.state, Hospital(name="north"))
    assert api.done("GET", "roster/draft")["sites"][0]["site"] == "north"
    put = api.done("PUT", "roster", consortium.sign_roster(api.state))
    assert (put["version"], put["active"], api.changes) == (2, ["north"], 1)
    lines = [json.loads(line) for line in api.state.folder.audit.read_text().splitlines()]
    changes = [line["event"] for line in lines if line["event"]["kind"] == "roster"]
    assert [(one["version"], one["joined"]) for one in changes] == [(2, [])]  # joined by the first
    (site,) = api.done("GET", "sites")["sites"]
    assert (site["status"], site["online"], site["waits_for_root"]) == ("active", True, False)
    suspended = api.done("POST", "sites/north/suspend")
    assert (suspended["takes_part"], suspended["waits_for_root"], api.changes) == (False, True, 2)
    status, told = api.call("PUT", "roster", b"{}")
    assert (status, told["code"]) == (400, "FV-TRAN-013")


def test_a_run_is_proposed_and_started_once_sites_agree(api: Api, consortium: Consortium) -> None:
    north = Hospital(name="north")
    consortium.join(api.state, north)
    plan = plan_for("north")
    bring(api, "tiny-1", INITIAL)
    shown = api.done("POST", "runs/tiny-1/propose", {"plan": plan.model_dump_json()})
    assert (shown["state"], shown["plan"]) == ("proposed", plan.digest)
    assert shown["sites"][0]["consent"] == "waiting"
    status, told = api.call("POST", "runs/tiny-1/start", {})
    assert (status, told["code"]) == (400, "FV-FED-001")
    assert "without: north" in told["what"]
    api.state.store.agreements.consent(
        ConsentRecord(
            proposal="tiny-1",
            site=SiteId("north"),
            decision=Decision.APPROVE,
            reason="",
            signed=b"",
            said=api.state.store.agreements.proposals()[0].created,
        )
    )
    assert api.done("POST", "runs/tiny-1/start", {})["wanted"] == "started"
    paused = api.done("POST", "runs/tiny-1/pause", {"reason": "maintenance"})
    assert (paused["wanted"], paused["reason"], paused["by"]) == (
        "paused",
        "maintenance",
        "operator",
    )
    assert api.done("POST", "runs/tiny-1/resume", {})["wanted"] == "started"
    assert api.done("POST", "runs/tiny-1/stop", {"reason": "wrong labels"})["wanted"] == "stopped"
    status, told = api.call("POST", "runs/tiny-1/start", {})
    assert (status, told["code"]) == (400, "FV-FED-012")
    assert [one["run"] for one in api.done("GET", "runs")["runs"]] == ["tiny-1"]


def test_a_fingerprint_job_is_proposed_like_a_run(api: Api, consortium: Consortium) -> None:
    north = Hospital(name="north")
    consortium.join(api.state, north)
    study = parse_open_study(OPEN_STUDY, where="open.toml")
    asked = Proposal(software="0.1.0", study=study, sites=("north",))
    body = {"proposal": asked.model_dump_json()}
    assert api.call("POST", "runs/p-fingerprint/fingerprint", body)[1]["code"] == "FV-FED-012"
    lone = study.model_copy(
        update={"federation": study.federation.model_copy(update={"min_sites": 1})}
    )
    asked = asked.model_copy(update={"study": lone})
    body = {"proposal": asked.model_dump_json()}
    shown = api.done("POST", "runs/p-fingerprint/fingerprint", body)
    assert (shown["kind"], shown["state"], shown["plan"]) == (
        "fingerprint",
        "proposed",
        asked.digest,
    )
    assert api.call("POST", "runs/p-fingerprint/fingerprint", body)[1]["code"] == "FV-FED-012"
    assert api.call("POST", "runs/p-fingerprint/start", {})[1]["code"] == "FV-FED-001"
    (listed,) = api.done("GET", "runs")["runs"]
    assert (listed["kind"], listed["state"]) == ("fingerprint", "proposed")
    held = api.done("GET", "runs/p-fingerprint/fingerprint")
    assert OpenStudy.model_validate_json(held["asked"]) == lone
    assert (held["study"], held["planning"], held["state"]) == (None, None, "proposed")


def test_what_is_no_fingerprint_job(api: Api, consortium: Consortium) -> None:
    consortium.join(api.state, Hospital(name="north"))
    closed = Proposal(
        software="0.1.0",
        study=OpenStudy.model_validate_json(STUDY.model_dump_json()),
        sites=("north",),
    )
    told = {
        "no proposal": api.call("POST", "runs/a/fingerprint", {"proposal": "{}"}),
        "nothing open": api.call(
            "POST", "runs/a/fingerprint", {"proposal": closed.model_dump_json()}
        ),
        "no job": api.call("GET", "runs/a/fingerprint"),
    }
    bring(api, "a", INITIAL)
    api.done("POST", "runs/a/propose", {"plan": plan_for("north").model_dump_json()})
    told["a run"] = api.call("GET", "runs/a/fingerprint")
    assert {name: body["code"] for name, (_, body) in told.items()} == {
        "no proposal": "FV-TRAN-001",
        "nothing open": "FV-TRAN-001",
        "no job": "FV-FED-012",
        "a run": "FV-FED-012",
    }


def test_a_run_shows_the_step_a_site_told_while_its_round_waits_for_it(
    api: Api, consortium: Consortium
) -> None:
    north = Hospital(name="north")
    consortium.join(api.state, north)
    plan = plan_for("north")
    bring(api, "tiny-1", INITIAL)
    api.done("POST", "runs/tiny-1/propose", {"plan": plan.model_dump_json()})
    runs, name = api.state.runs, RunId("tiny-1")

    def shown() -> Any:
        (site,) = api.done("GET", "runs/tiny-1")["sites"]
        return site["training"]

    api.progress.tell(SiteId("north"), north.progress("tiny-1", plan.digest))
    assert shown() is None  # there is no round
    record = runs.open_round(name, stage=0, index=1, base=Digest("0" * 64), arguments={})
    runs.set_round_state(record.key, RoundState.COLLECTING)
    runs.put_site_round(record.key, SiteRound(site=SiteId("north"), state=SiteState.ASKED))
    api.clock_s = 10.0
    assert shown() == {
        "step": 31,
        "steps": 120,
        "seconds_left": 89 * 2.5 - 10,
        "told_seconds_ago": 10.0,
        "is_stale": False,
    }
    api.clock_s = 60.0
    assert shown()["is_stale"]
    api.progress.tell(SiteId("north"), north.progress("tiny-1", plan.digest, round=2))
    assert shown() is None  # it is of another round
    api.clock_s = 90.0
    api.progress.tell(SiteId("north"), north.progress("tiny-1", plan.digest))
    assert shown() is not None
    runs.put_site_round(record.key, SiteRound(site=SiteId("north"), state=SiteState.CONTRIBUTED))
    assert shown() is None


def test_what_cannot_be_proposed(api: Api, consortium: Consortium) -> None:
    consortium.join(api.state, Hospital(name="north"))
    plan = plan_for("north").model_dump_json()
    codes = {
        "no weights": api.call("POST", "runs/a/propose", {"plan": plan}),
        "no plan": api.call("POST", "runs/a/propose", {"plan": "{}"}),
        "no name": api.call("PUT", "runs/-a/initial", b""),
        "no run": api.call("GET", "runs/a"),
    }
    bring(api, "a", INITIAL)
    strangers = plan_for("north", "south").model_dump_json()
    codes["strangers"] = api.call("POST", "runs/a/propose", {"plan": strangers})
    bring(api, "b", {"w": INITIAL["w"] + 1})
    codes["other weights"] = api.call("POST", "runs/b/propose", {"plan": plan})
    assert {name: body.get("code", "") for name, (_, body) in codes.items()} == {
        "no weights": "FV-FED-012",
        "no plan": "FV-TRAN-001",
        "no name": "FV-CONF-004",
        "no run": "FV-FED-012",
        "strangers": "FV-FED-012",
        "other weights": "FV-FED-003",
    }
    api.done("POST", "runs/a/propose", {"plan": plan})
    assert api.call("PUT", "runs/a/initial", b"")[1]["code"] == "FV-FED-012"
