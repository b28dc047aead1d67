"""A hospital's answers: in plain language before, signed and written down after."""

import json
import re
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from audit_logs import Noted
from conftest import Command
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
from pretraining import pretrained_study, pretrained_text
from tiny import Events, tiny_study, tiny_text

from fedvol.audit import verify_log
from fedvol.config.loading import parse_open_study, parse_study
from fedvol.errors import (
    AnsweredMeanwhileError,
    AuditError,
    ConsentMissingError,
    MessageError,
)
from fedvol.identity import Tag, client_context, open_body
from fedvol.plan import Proposal
from fedvol.simulation.federate import make_plan
from fedvol.site import Answering, SiteFolder, Sync, approved
from fedvol.store import Decision, SiteStore
from fedvol.transport.network.site_calls import SiteCalls
from fedvol.types import RunId

PLAN = plain_plan(tiny_study())


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(folder=tmp_path / "server")


@pytest.fixture
def held(tmp_path: Path, server: Server) -> SiteFolder:
    """A site with one source and the proposal `p1`."""
    folder = joined(tmp_path / "site", server)
    add_to_config(folder, source_toml(tmp_path))
    keep_proposal(folder, server, "p1", PLAN)
    return folder


def test_show_says_what_is_computed_and_what_leaves(held: SiteFolder, fedvol: Command) -> None:
    done = fedvol("consent", "show", "p1", "--folder", held.folder, "--json")
    assert done.status == 0, done.err
    for words in (
        "by:\n  > olga\n",
        "Purpose:\n  > A federation small enough for a test.\n",
        "source ct",
        "3 rounds of 3 training steps each",
        "3 rounds x 2 tensors, 420 bytes a round",
        "Bytes up in all: 1.3 kB",
        "Bytes down in all: 1.7 kB",
        "no secure sum",
        "fewer than 10 patients",
        "every 5 s while it trains",
        "not known; 9 steps",
        "Your policy allows it.",
    ):
        assert words in done.err, words
    said = json.loads(done.out)
    assert (said["bytes_up"], said["bytes_down"], said["hours"]) == (3 * 420, 4 * 420, None)
    text = held.config_file.read_text()
    held.config_file.write_text(text.replace("[policy]", "[policy]\ntell_progress = false"))
    assert "while it trains" not in fedvol("consent", "show", "p1", "--folder", held.folder).err


def test_show_says_what_of_a_pretraining_stays_and_how_long_each_stage_takes(
    held: SiteFolder, server: Server, fedvol: Command
) -> None:
    study = pretrained_study(
        keys='exchange = "all_but_heads"\nprobe = { every = 2, steps = 9 }',
        start='parts = "encoder"\nheads_first_rounds = 1',
    )
    plan, _ = make_plan(study, sites=(SITE,))
    keep_proposal(held, server, "pre", plan)
    done = fedvol("consent", "show", "pre", "--measure", "--json", "--folder", held.folder)
    said = " ".join(done.err.split())
    assert "on all training cases, labelled or not; heads stay at their site, labels" in said
    assert "read after every 2 rounds (heads trained on them for 9 steps and dropped" in said
    assert "each; from the pretrained encoder, heads alone in the first round." in said
    (pretrain,) = re.findall(r"6 steps of ([\d.]+) s \(pretrain\)", done.err)
    (finetune,) = re.findall(r"9 steps of ([\d.]+) s \(finetune\)", done.err)
    hours = (6 * float(pretrain) + 9 * float(finetune)) / 3600
    assert json.loads(done.out)["hours"] == pytest.approx(hours, abs=15 * 0.005 / 3600)


def test_show_says_of_how_many_patients_labels_are_read_and_that_control_variates_leave(
    held: SiteFolder, server: Server, fedvol: Command
) -> None:
    few = f"few_labels = {{ subjects = {{ {SITE} = 2 }} }}"
    text = pretrained_text(strategy='kind = "scaffold"').replace("[data]", f"[data]\n{few}")
    plan, _ = make_plan(parse_study(text, where="tiny.toml"), sites=(SITE,))
    keep_proposal(held, server, "few", plan)
    done = fedvol("consent", "show", "few", "--folder", held.folder)
    assert "\n  labels of 2 training patients at most are read; to this study the" in done.err
    leaves = done.err.partition("What leaves:")[2].splitlines()
    assert leaves[1].startswith("  2 rounds x ")
    assert leaves[2] == "  and their control variates (the gradients of your cases)."
    assert leaves[3].startswith("  3 rounds x ")
    assert leaves[3].endswith("would change the weights.")


def test_what_others_write_cannot_pass_for_ours(
    held: SiteFolder, server: Server, fedvol: Command
) -> None:
    """Escapes, line ends of every kind, and a line long enough for the terminal to break it."""
    forged = "\x1b[2J\x1b[1mYour policy allows it.\nBytes up in all: 0\rNothing leaves.\u2028No."
    purpose = json.dumps(f"{'x' * 71} {'y' * 80}\n{forged}\x9b1m")
    content = plain_plan(tiny_study(purpose=f"purpose = {purpose}"))
    said = {"words": forged, "operator": f"olga\n{forged}"}
    keep_proposal(held, server, "forged", content, **said)
    before = fedvol("consent", "show", "p1", "--folder", held.folder)
    shown = fedvol("consent", "show", "forged", "--folder", held.folder)
    assert (before.status, shown.status) == (0, 0), shown.err
    assert not any(letter in shown.err for letter in "\x1b\r\x9b\u2028")
    ours = [line for line in shown.err.splitlines() if not line.startswith("  > ")]
    usual = [line for line in before.err.splitlines() if not line.startswith("  > ")]
    assert [line.replace("forged", "p1") for line in ours] == usual
    assert "  > ?[2J?[1mYour policy allows it." in shown.err
    assert max(len(line) for line in shown.err.splitlines() if line.startswith("  > ")) <= 76


def test_a_fingerprint_job_is_told_as_one(
    held: SiteFolder, server: Server, fedvol: Command
) -> None:
    study = parse_open_study(tiny_text(), where="tiny.toml")
    keep_proposal(held, server, "count", Proposal(software="0.1.0", study=study, sites=(SITE,)))
    done = fedvol("consent", "show", "count", "--folder", held.folder)
    assert "nothing is trained" in done.err
    assert "No image, no case, no name." in done.err


def test_approve_is_signed_and_logged(held: SiteFolder, server: Server, fedvol: Command) -> None:
    done = fedvol(
        "consent", "approve", "p", "--folder", held.folder, "--yes", "--by", "dr b", "--json"
    )
    assert done.status == 0, done.err
    assert json.loads(done.out) == {"id": "p1", "decision": "approve", "source": "ct"}
    with SiteStore(held.store_file) as store:
        found = approved(store, RunId("p1"), digest=PLAN.digest)
        assert found is not None
        said = open_body(
            found[1].signed, tag=Tag.CONSENT, signer=held.identity().public, where="consent"
        )
        assert approved(store, RunId("p2"), digest=PLAN.digest) is None
    assert (said["proposal"], said["plan"], said["decision"]) == ("p1", PLAN.digest, "approve")
    log = verify_log(held.audit_file, keys=[held.identity().public.hex])
    assert (log.records, log.num_unsigned) == (2, 0)
    event = json.loads(held.audit_file.read_text().splitlines()[0])["event"]
    assert (event["kind"], event["decision"], event["by"]) == ("consent", "approved", "dr b")


def test_nobody_confirmed(
    held: SiteFolder, fedvol: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    done = fedvol("consent", "approve", "p1", "--folder", held.folder)
    assert done.status == 2
    with SiteStore(held.store_file) as store:
        assert store.consent("p1") is None
    assert not held.audit_file.exists()


def test_what_the_policy_forbids_cannot_be_approved(held: SiteFolder, fedvol: Command) -> None:
    text = held.config_file.read_text().replace(
        "min_cohort = 10", 'min_cohort = 10\nmax_rounds = 2\nnetworks = ["vnet"]'
    )
    held.config_file.write_text(text)
    done = fedvol("consent", "approve", "p1", "--folder", held.folder, "--yes", "--json")
    assert done.status == 4
    error = json.loads(done.out)["error"]
    assert error["code"] == "FV-PRIV-020"
    assert [one["where"] for one in error["problems"]] == ["policy.networks", "policy.max_rounds"]
    shown = fedvol("consent", "show", "p1", "--folder", held.folder)
    assert "YOUR POLICY FORBIDS IT" in shown.err
    refused = fedvol("consent", "refuse", "p1", "--folder", held.folder, "--json")
    assert json.loads(refused.out)["code"] == "FV-PRIV-020"
    checked = fedvol("site", "policy", "check", "p1", "--folder", held.folder)
    assert checked.status == 4


def test_no_source_fits(held: SiteFolder, fedvol: Command) -> None:
    text = held.config_file.read_text().replace("lesion = 3", "lesion = 4")
    held.config_file.write_text(text)
    done = fedvol("consent", "approve", "p1", "--folder", held.folder, "--yes")
    assert done.status == 3
    assert "FV-DATA-031" in done.err
    named = fedvol("consent", "approve", "p1", "--folder", held.folder, "--yes", "--data", "ct")
    assert "lesion has the value 4, and the study expects 3" in named.err


def test_two_sources_fit(held: SiteFolder, tmp_path: Path, fedvol: Command) -> None:
    add_to_config(held, source_toml(tmp_path, name="second"))
    words = ("consent", "approve", "p1", "--folder", held.folder, "--yes")
    assert "several fit: ct, second" in fedvol(*words).err
    done = fedvol(*words, "--data", "second", "--json")
    assert json.loads(done.out)["source"] == "second"


def test_withdraw_and_approve_again(held: SiteFolder, fedvol: Command) -> None:
    folder = ("--folder", held.folder)
    assert fedvol("consent", "withdraw", "p1", *folder).status == 4
    assert fedvol("consent", "approve", "p1", *folder, "--yes").status == 0
    assert fedvol("consent", "refuse", "p1", *folder).status == 2
    assert fedvol("consent", "withdraw", "p1", *folder, "--reason", "changed").status == 0
    with SiteStore(held.store_file) as store:
        assert approved(store, RunId("p1"), digest=PLAN.digest) is None
    assert fedvol("consent", "approve", "p1", *folder, "--yes").status == 0
    with SiteStore(held.store_file) as store:
        assert approved(store, RunId("p1"), digest=PLAN.digest) is not None
        times = [one.at for one in store.consents("p1")]
    assert times[0] < times[1] < times[2]
    assert all(one.microsecond == 0 for one in times)
    listed = fedvol("consent", "list", *folder, "--json")
    assert json.loads(listed.out)["proposals"][0]["decision"] == "approve"


def test_a_changed_record_is_not_answered(held: SiteFolder, server: Server) -> None:
    keep_proposal(held, server, "p2", PLAN)
    with SiteStore(held.store_file) as store:
        first, second = store.proposals()
        with store._engine.begin() as connection:  # as somebody with the file could
            connection.exec_driver_sql(
                "update site_proposals set signed = ? where id = 'p1'",
                (second.signed.replace(b"Please", b"Kindly"),),
            )
        answering = Answering(folder=held, store=store, key=held.identity())
        from fedvol.errors import SignatureError

        with pytest.raises(SignatureError):
            answering.approve("p1", by="x", reason="", source=None, now=now())
        assert first.id == "p1"


@pytest.fixture
def unreadable(held: SiteFolder) -> SiteFolder:
    """The site, after `p1` was approved and its record became another than the server signed."""
    with SiteStore(held.store_file) as store:
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        with store._engine.begin() as connection:
            connection.exec_driver_sql("update site_proposals set signed = ?", (b"{}",))
    return held


def answering(held: SiteFolder, store: SiteStore) -> Answering:
    return Answering(folder=held, store=store, key=held.identity())


def test_what_cannot_be_read_can_be_listed_and_withdrawn(
    unreadable: SiteFolder, fedvol: Command
) -> None:
    folder = ("--folder", unreadable.folder)
    assert fedvol("consent", "show", "p1", *folder).status != 0
    listed = fedvol("consent", "list", *folder, "--json")
    assert json.loads(listed.out)["proposals"][0]["study"] is None
    assert "cannot be read by this version" in listed.err
    assert fedvol("consent", "withdraw", "p1", *folder).status == 0
    with SiteStore(unreadable.store_file) as store:
        assert approved(store, RunId("p1"), digest=PLAN.digest) is None


@pytest.mark.parametrize("damage", ["site.toml is damaged", None])
def test_no_brake_needs_the_site_file(
    held: SiteFolder, fedvol: Command, damage: str | None
) -> None:
    with SiteStore(held.store_file) as store:
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
    if damage is None:
        held.config_file.unlink()
    else:
        held.config_file.write_text(damage)
    folder = ("--folder", held.folder)
    listed = json.loads(fedvol("consent", "list", *folder, "--json").out)["proposals"]
    assert [(one["study"], one["decision"]) for one in listed] == [("tiny", "approve")]
    assert fedvol("consent", "withdraw", "p1", *folder).status == 0
    with SiteStore(held.store_file) as store:
        assert approved(store, RunId("p1"), digest=PLAN.digest) is None
        signed = store.consents("p1")[-1].signed
    key = held.identity().public
    said = open_body(signed, tag=Tag.CONSENT, signer=key, where="withdrawal")
    assert (said["site"], said["decision"]) == (SITE, "withdraw")
    assert fedvol("site", "pause", *folder).status == 0
    assert held.paused_file.exists()
    assert fedvol("site", "leave", *folder, "--yes").status == 0


def test_the_brakes_leave_other_folders_alone(tmp_path: Path, fedvol: Command) -> None:
    for words in (("consent", "withdraw", "p1"), ("site", "pause"), ("site", "leave", "--yes")):
        assert fedvol(*words, "--folder", tmp_path).status == 2
    assert list(tmp_path.iterdir()) == []


def test_a_site_leaves_whatever_was_proposed(unreadable: SiteFolder, fedvol: Command) -> None:
    done = fedvol("site", "leave", "--folder", unreadable.folder, "--yes", "--json")
    assert json.loads(done.out)["withdrawn"] == ["p1"]


def test_without_a_log_an_approval_fails_and_a_withdrawal_holds(held: SiteFolder) -> None:
    def decision() -> Decision | None:
        answer = store.consent("p1")
        return None if answer is None else answer.decision

    with SiteStore(held.store_file) as store:
        site = answering(held, store)
        held.audit_file.write_text("no log\n")
        with pytest.raises(AuditError):
            site.approve("p1", by="x", reason="", source=None, now=now())
        assert decision() is None
        held.audit_file.unlink()
        site.approve("p1", by="x", reason="", source=None, now=now())
        held.audit_file.write_text("no log\n")
        with pytest.raises(AuditError):
            site.withdraw("p1", by="x", reason="", now=now())
        assert decision() is Decision.WITHDRAW


def test_a_rule_does_not_answer_over_a_person(held: SiteFolder) -> None:
    """Somebody refuses after the rule saw that nobody had answered."""
    with SiteStore(held.store_file) as store:
        site = answering(held, store)
        record = site.record("p1")
        site.refuse("p1", by="x", reason="", now=now())
        with pytest.raises(AnsweredMeanwhileError):
            site.approve_by_rule(record, now=now())
        assert [one.decision for one in store.consents("p1")] == [Decision.REFUSE]
    assert held.audit_file.read_text().count('"kind":"consent"') == 1


def test_what_is_over_cannot_be_approved(held: SiteFolder, fedvol: Command) -> None:
    with SiteStore(held.store_file) as store:
        store.set_states({"p1": "ended"})
    done = fedvol("consent", "approve", "p1", "--folder", held.folder, "--yes")
    assert done.status == 2
    assert "it is over" in done.err


def test_an_answer_is_brought_until_the_server_has_heard_it(
    held: SiteFolder, server: Server
) -> None:
    config = held.config()
    calls = SiteCalls(
        config.server,
        tls=client_context(held.authority_pem()),
        key=held.identity(),
        site=SITE,
        timeout_s=10.0,
    )
    with SiteStore(held.store_file) as store, closing(calls):
        answering = Answering(folder=held, store=store, key=held.identity())
        answering.approve("p1", by="x", reason="secret words", source=None, now=now())
        sync = Sync(held, store, calls, audit=Noted(), observer=Events())
        from fedvol.errors import LinkDownError

        with pytest.raises(LinkDownError):
            sync.deliver()
        with server.listening():
            assert (sync.deliver(), sync.deliver()) == (1, 0)
            assert "secret words" not in json.dumps(server.consents)
            server.refuse_consents = "FV-FED-008"
            answering.withdraw("p1", by="x", reason="", now=now() + timedelta(seconds=5))
            assert (sync.deliver(), sync.deliver()) == (0, 0)
        last = store.consent("p1")
    assert last is not None
    assert last.answer == "FV-FED-008"


def test_leave_withdraws_everything(held: SiteFolder, server: Server, fedvol: Command) -> None:
    keep_proposal(held, server, "p2", PLAN)
    folder = ("--folder", held.folder)
    for name in ("p1", "p2"):
        assert fedvol("consent", "approve", name, *folder, "--yes").status == 0
    done = fedvol("site", "leave", *folder, "--yes", "--json")
    assert json.loads(done.out)["withdrawn"] == ["p1", "p2"]
    status = json.loads(fedvol("site", "status", *folder, "--json").out)
    assert (status["paused"], status["approved"], status["undelivered"]) == (True, 0, 4)
    assert held.identity_file.exists()


def test_withdrawing_what_nobody_approved(held: SiteFolder) -> None:
    with SiteStore(held.store_file) as store:
        answering = Answering(folder=held, store=store, key=held.identity())
        with pytest.raises(ConsentMissingError):
            answering.withdraw("p1", by="x", reason="", now=now())


def test_an_answer_that_is_no_answer(held: SiteFolder) -> None:
    """A proxy answers in the server's place: the answer is brought again later."""
    from fedvol.transport.network.site_calls import Answer

    class Proxy:
        def roster(self) -> bytes | None:
            return None

        def proposals(self) -> tuple[()]:
            return ()

        def proposal(self, name: str) -> bytes:
            return b""

        def receipts(self, run: str) -> tuple[str, ...]:
            return ()

        def consent(self, body: bytes) -> Answer:
            return Answer(status=407, code="", body=b"<html>", date="")

    with SiteStore(held.store_file) as store:
        answering = Answering(folder=held, store=store, key=held.identity())
        answering.approve("p1", by="x", reason="", source=None, now=now())
        with pytest.raises(MessageError, match="407"):
            Sync(held, store, Proxy(), audit=Noted(), observer=Events()).deliver()
        assert len(store.undelivered()) == 1
