"""Nothing runs before approval; withdrawal, pause and policy hold at once, hours for new work."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from audit_logs import Noted
from hospital import (
    SITE,
    Server,
    add_to_config,
    joined,
    keep_proposal,
    now,
    plain_plan,
    source_toml,
)
from tiny import tiny_study

from fedvol.audit import AuditEvent, PolicyDecision
from fedvol.errors import (
    AuditError,
    ConsentMissingError,
    OutsideHoursError,
    PolicyRefusedError,
    SiteFileError,
    SitePausedError,
)
from fedvol.federation import Action, Request
from fedvol.site import Answering, Gate, SiteFolder, pause, resume
from fedvol.store import SiteStore
from fedvol.types import Digest, RunId

PLAN = plain_plan(tiny_study())
NOON = datetime(2026, 3, 2, 12).astimezone()


def request(*, run: str = "p1", plan: str = PLAN.digest) -> Request:
    return Request(
        run=RunId(run),
        plan=Digest(plan),
        stage=0,
        round=1,
        site=SITE,
        action=Action.FINETUNE,
        state={},
        arguments={},
        limit_s=10.0,
    )


@pytest.fixture
def held(tmp_path: Path) -> SiteFolder:
    server = Server(folder=tmp_path / "server")
    folder = joined(tmp_path / "site", server)
    add_to_config(folder, source_toml(tmp_path))
    keep_proposal(folder, server, "p1", PLAN)
    return folder


def decisions(audit: Noted) -> list[tuple[str, tuple[str, ...], str]]:
    """What the gate wrote down: decision, rules, code."""
    found = [one for one in audit.events if isinstance(one, PolicyDecision)]
    assert len(found) == len(audit.events)
    return [(one.decision, tuple(one.rules), one.code) for one in found]


def answering(held: SiteFolder, store: SiteStore) -> Answering:
    return Answering(folder=held, store=store, key=held.identity())


def test_from_nothing_to_approval_to_withdrawal(held: SiteFolder) -> None:
    audit = Noted()
    with SiteStore(held.store_file) as store, SiteStore(held.store_file) as other:
        gate = Gate(held, store, audit=audit, now=lambda: NOON)
        with pytest.raises(ConsentMissingError):
            gate.require(request())
        # Another process answers, as the command line does.
        answering(held, other).approve("p1", by="x", reason="", source=None, now=now())
        assert gate.require(request()).proposed.digest == PLAN.digest
        with pytest.raises(ConsentMissingError):
            gate.require(request(plan="0" * 64))
        with pytest.raises(ConsentMissingError):
            gate.require(request(run="again"))
        terms = gate.terms(request())
        gate.require_still(request(), terms=terms)
        answering(held, other).withdraw("p1", by="x", reason="", now=now())
        with pytest.raises(ConsentMissingError):
            gate.require_still(request(), terms=terms)
    no = ("refused", (), "FV-PRIV-021")
    assert decisions(audit) == [no, ("allowed", (), ""), no, no, no]
    assert [(one.run, one.plan) for one in audit.events if isinstance(one, PolicyDecision)] == [
        ("p1", PLAN.digest),
        ("p1", PLAN.digest),
        ("p1", "0" * 64),
        ("again", PLAN.digest),
        ("p1", PLAN.digest),
    ]


def test_a_paused_site_answers_and_sends_nothing(held: SiteFolder) -> None:
    audit = Noted()
    with SiteStore(held.store_file) as store:
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        gate = Gate(held, store, audit=audit, now=lambda: NOON)
        pause(held, by="x", reason="maintenance", now=now())
        for look in (gate.require, gate.terms):
            with pytest.raises(SitePausedError):
                look(request())
        assert resume(held, by="y", reason="done")
        assert not resume(held, by="y", reason="")
        gate.require(request())
    lines = [json.loads(line)["event"] for line in held.audit_file.read_text().splitlines()]
    said = [(one["paused"], one["by"], one["reason"]) for one in lines if one["kind"] == "pause"]
    assert said == [(True, "x", "maintenance"), (False, "y", "done")]


def test_without_a_log_a_site_can_pause_and_not_go_on(held: SiteFolder) -> None:
    held.audit_file.write_text("no log\n")
    with pytest.raises(AuditError):
        pause(held, by="x", reason="", now=now())
    with pytest.raises(AuditError):
        resume(held, by="x", reason="")
    assert held.paused_file.exists()


def test_the_policy_of_today_counts(held: SiteFolder) -> None:
    audit = Noted()
    with SiteStore(held.store_file) as store:
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        gate = Gate(held, store, audit=audit, now=lambda: NOON, wait=list[float]().append)
        gate.require(request())
        text = held.config_file.read_text()
        held.config_file.write_text(text.replace("min_cohort = 10", "max_rounds = 1"))
        with pytest.raises(PolicyRefusedError):
            gate.require(request())
        held.config_file.write_text(text.replace("min_cohort = 10", "min_cohort = 0"))
        with pytest.raises(SiteFileError):
            gate.require(request())
    assert decisions(audit)[1:] == [
        ("refused", ("policy.max_rounds",), "FV-PRIV-020"),
        ("refused", (), SiteFileError.code),
    ]


def test_hours_are_for_computing_and_not_for_sending(held: SiteFolder) -> None:
    audit = Noted()
    text = held.config_file.read_text()
    hours = 'hours = { begin = "19:00", end = "07:00" }'
    held.config_file.write_text(text.replace("min_cohort = 10", hours))
    with SiteStore(held.store_file) as store:
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        day, night = (
            Gate(held, store, audit=audit, now=lambda: NOON),
            Gate(held, store, audit=audit, now=lambda: NOON.replace(hour=23)),
        )
        with pytest.raises(OutsideHoursError):
            day.require(request())
        terms = night.require(request()).terms
        day.require_still(request(), terms=terms)
    assert decisions(audit) == [
        ("refused", ("policy.hours",), OutsideHoursError.code),
        ("allowed", (), ""),
    ]


def test_what_was_computed_under_other_terms_stays_here(held: SiteFolder) -> None:
    audit = Noted()
    text = held.config_file.read_text()
    with SiteStore(held.store_file) as store:
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        gate = Gate(held, store, audit=audit, now=lambda: NOON, wait=list[float]().append)
        terms = gate.require(request()).terms
        for change, error in (
            ("max_rounds = 1", PolicyRefusedError),  # the plan has more
            ("min_cohort = 11", PolicyRefusedError),
            ("min_cohort = 0", SiteFileError),
        ):
            held.config_file.write_text(text.replace("min_cohort = 10", change))
            with pytest.raises(error):
                gate.require_still(request(), terms=terms)
        whenever = 'hours = { begin = "01:00", end = "02:00" }\ntell_progress = false\n'
        whenever += "max_upload_mbit_s = 2.0"
        held.config_file.write_text(text.replace("min_cohort = 10", whenever))
        gate.require_still(request(), terms=terms)
        held.config_file.write_text(text)
        answering(held, store).withdraw("p1", by="x", reason="", now=now())
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        with pytest.raises(PolicyRefusedError):
            gate.require_still(request(), terms=terms)
    assert decisions(audit) == [
        ("allowed", (), ""),
        ("refused", ("policy.max_rounds",), "FV-PRIV-020"),
        ("refused", ("policy",), "FV-PRIV-020"),
        ("refused", (), SiteFileError.code),
        ("refused", ("policy",), "FV-PRIV-020"),
    ]


def test_nothing_is_answered_that_cannot_be_written_down(held: SiteFolder) -> None:
    class Full:
        def append(self, event: AuditEvent, /) -> None:
            raise AuditError("log", "the disk is full", "Free space.")

    with SiteStore(held.store_file) as store:
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        with pytest.raises(AuditError):
            Gate(held, store, audit=Full(), now=lambda: NOON).require(request())


def test_a_site_file_that_is_being_saved_is_read_once_more(held: SiteFolder) -> None:
    audit, text, waited = Noted(), held.config_file.read_text(), list[float]()

    def saved_meanwhile(seconds: float) -> None:
        waited.append(seconds)
        held.config_file.write_text(text)

    with SiteStore(held.store_file) as store:
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        gate = Gate(held, store, audit=audit, now=lambda: NOON, wait=saved_meanwhile)
        terms = gate.terms(request())
        for half in (text[: text.index("\n") - 1], ""):
            held.config_file.write_text(half)
            gate.require_still(request(), terms=terms)
        held.config_file.unlink()  # an editor that puts another file in its place
        gate.require_still(request(), terms=terms)
    assert waited == [1.0] * 3
    assert decisions(audit) == []
