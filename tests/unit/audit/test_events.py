"""Events as the log writes them."""

import dataclasses

import pytest
from audit_logs import PLAN, answer, receipt, received, record, reply, sent

from fedvol import audit
from fedvol.audit import (
    AuditRecord,
    BackupTaken,
    CallersRefused,
    ConsentDecision,
    OperatorAction,
    OperatorOutcome,
    PolicyDecision,
    RosterChange,
    ServerRestored,
    SitePause,
)
from fedvol.audit.events import MAX_FOREIGN_TEXT
from fedvol.plan import canonical_json

EVENTS = [
    record(),
    receipt(1),
    received(1),
    received(1, code="FV-TRAN-001"),
    sent(1),
    answer(1),
    reply(1),
    reply(1, code="FV-FED-002"),
    ConsentDecision(
        consent="c-1", proposal=PLAN, proposed="run", run="r1", decision="approved", by="dr_rossi"
    ),
    SitePause(paused=True, by="dr_rossi", reason="the scanner's computer is needed"),
    PolicyDecision(
        run="r1",
        plan=PLAN,
        stage=0,
        round=1,
        action="train.finetune",
        rules=("policy.max_rounds",),
        decision="refused",
        code="FV-PRIV-020",
    ),
    BackupTaken(backup=PLAN, records=3, head=PLAN),
    ServerRestored(backup=PLAN, taken="2026-01-31T12:00:00Z", records=3, head=PLAN),
    OperatorAction(user="ada", role="operator", action="run start", subject="r1", call="1" * 16),
    OperatorOutcome(user="ada", action="run start", subject="r1", call="1" * 16, code="FV-FED-001"),
    CallersRefused(
        port="public",
        address="192.0.2.7",
        status=401,
        count=37,
        first="2026-01-31T12:00:00Z",
        last="2026-01-31T12:09:00Z",
    ),
    RosterChange(
        version=2, roster=PLAN, joined=("site_c",), rekeyed=("site_d",), revoked=("site_b",)
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_its_kind_and_every_field(event) -> None:
    said = event.as_json()
    names = {field.name for field in dataclasses.fields(event)}
    assert said.keys() == names | {"kind"}
    assert not said.keys() & {"sequence", "time", "hash"}
    for name in names:
        value = getattr(event, name)
        assert said[name] == (list(value) if isinstance(value, tuple) else value)
    assert canonical_json(said)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, min(names), "other")


def test_kinds_tell_events_apart() -> None:
    kinds = [event.as_json()["kind"] for event in EVENTS]
    assert len(set(kinds)) == len(kinds) - 1  # a request is `received` whatever became of it
    assert {"reply_taken", "reply_refused"} < set(kinds)


def test_every_event_of_the_package_is_tested_here() -> None:
    others = {"AuditEvent", "Checkpoint", "Comparison", "Crossing", "LogSummary", "Selection"}
    named = {name for name in audit.__all__ if hasattr(getattr(audit, name), "as_json")}
    assert named - others - {"Totals"} == {type(event).__name__ for event in EVENTS}


def test_a_contribution_alone_names_a_recipient() -> None:
    """Totals of what left count lines that do."""
    for event in EVENTS:
        assert ("recipient" in event.as_json()) == isinstance(event, AuditRecord)


@pytest.mark.parametrize(
    ("event", "names"),
    [
        (received(1, action="x" * 9000), ("action",)),
        (
            OperatorAction(user="u", role="r", action="a", subject="x" * 9000, call="1"),
            ("subject",),
        ),
        (OperatorOutcome(user="u", action="a", subject="x" * 9000, call="1"), ("subject",)),
    ],
)
def test_what_outsiders_wrote_is_cut(event, names: tuple[str, ...]) -> None:
    for name in names:
        assert event.as_json()[name] == "x" * MAX_FOREIGN_TEXT + "…"


def test_what_is_no_json_is_a_slip() -> None:
    with pytest.raises(TypeError, match="object"):
        record(form=object()).as_json()
