"""Requests and answers that prove whose they are; weights beside them; the same answer again."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agreements import Agreement
from audit_logs import CONTENT, record

from fedvol.audit import AuditLog, Comparison, compare_logs
from fedvol.errors import (
    AuditError,
    BlobRefusedError,
    ConsentMissingError,
    FedvolError,
    IdentityError,
    LinkDownError,
    MessageError,
    NoLabelsError,
    SignatureError,
)
from fedvol.federation import Action, Reply, Request
from fedvol.identity import IdentityKey, PublicKey, SignedBody, Tag
from fedvol.privacy import Contribution
from fedvol.privacy.contribution import Kind, sealed
from fedvol.transport.clock import VirtualClock
from fedvol.transport.engine import ConfigRecord, RecordDict
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.transport.network.outbox import Outbox
from fedvol.transport.network.signed_records import digest_of, from_records, to_records
from fedvol.transport.network.signed_server import SignedServer
from fedvol.transport.network.signed_site import SignedSite
from fedvol.types import Digest, RunId, SiteId

SITE, OTHER = SiteId("site_a"), SiteId("site_b")
STATE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3, dtype=np.int64)}
SERVER_KEY = IdentityKey.generate()
KEYS = {SITE: IdentityKey.generate(), OTHER: IdentityKey.generate()}


@dataclass
class Carrying:
    """Weights carried by copying files; can be cut."""

    folder: BlobFolder
    site: SiteId
    cuts: int = 0
    fetched: int = 0
    brought: int = 0

    def fetch(self, digest: Digest, *, size_bytes: int, target: Path) -> None:
        self._cut()
        source = self.folder.down(digest)
        if not source.is_file() or source.stat().st_size != size_bytes:
            raise BlobRefusedError("blob", "not there", "Stop.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        self.fetched += 1

    def bring(self, path: Path, *, digest: Digest, before_piece: Callable[[], None]) -> None:
        before_piece()
        self._cut()
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        target = self.folder.up(self.site, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        self.brought += 1

    def _cut(self) -> None:
        if self.cuts:
            self.cuts -= 1
            raise LinkDownError("link", "cut", "Wait.")


@dataclass
class Agent:
    """Counts how often it is asked; answers with twice what it was given, and writes it down."""

    audit: AuditLog
    code: str = ""
    asked: list[Request] = field(default_factory=list)

    def __call__(self, site: SiteId, request: Request) -> Contribution:
        self.asked.append(request)
        self.audit.append(record(request.round, site=site))
        if self.code:
            kind = NoLabelsError
            return sealed(
                Kind.REFUSAL,
                values={},
                tensors={},
                digest=CONTENT,
                code=kind.code,
                title=kind.title,
            )
        tensors = {name: tensor * 2 for name, tensor in request.state.items()}
        return sealed(Kind.UPDATE, values={"steps": 3}, tensors=tensors, digest=CONTENT)


class Roster:
    def __init__(self) -> None:
        self.active = {site: key.public for site, key in KEYS.items()}

    def identity(self, site: SiteId) -> PublicKey | None:
        return self.active.get(site)


def refuse(request: Request, error: FedvolError) -> Contribution:
    return sealed(
        Kind.REFUSAL, values={}, tensors={}, digest=CONTENT, code=error.code, title=error.title
    )


@dataclass
class Link:
    """Both ends of a link to one site."""

    folder: Path
    agreement: Agreement = field(default_factory=Agreement)
    roster: Roster = field(default_factory=Roster)

    def __post_init__(self) -> None:
        self.server_log, self.site_log = self.folder / "server.jsonl", self.folder / "site.jsonl"
        self.agent = Agent(AuditLog(self.site_log))
        self.blobs = BlobFolder(self.folder / "exchange")
        self.carrying = Carrying(self.blobs, SITE)
        self.server = self.new_server()
        self.site = self.new_site()

    def new_server(self) -> SignedServer:
        return SignedServer(
            SERVER_KEY,
            sites=self.roster,
            blobs=self.blobs,
            max_bytes=1 << 20,
            audit=AuditLog(self.server_log),
        )

    def new_site(
        self, *, key: IdentityKey = KEYS[SITE], server: IdentityKey = SERVER_KEY
    ) -> SignedSite:
        return SignedSite(
            key,
            server=server.public,
            blobs=self.carrying,
            outbox=self.folder / "outbox",
            agreement=self.agreement,
            audit=AuditLog(self.site_log),
            refuses=refuse,
            incoming=self.folder / "incoming",
            clock=VirtualClock(),
        )

    def answer(self, content: RecordDict, action: Action = Action.FINETUNE) -> RecordDict:
        return self.site.answer(self.agent, content, site=SITE, action=action.value)

    def decode(self, content: RecordDict, request: Request) -> Reply:
        return self.server.decode(content, request=request, bytes_down=5)

    def told(self) -> Comparison:
        """What both logs tell of each other, which is never a contradiction."""
        found = compare_logs(self.site_log, self.server_log)
        assert found.num_contradictions == 0, found.as_json()
        return found


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return Link(tmp_path)


def request(**changes: object) -> Request:
    whole = Request(
        run=RunId("run"),
        plan=Digest("1" * 64),
        stage=0,
        round=2,
        site=SITE,
        action=Action.FINETUNE,
        state=STATE,
        arguments={"mu": 0.5},
        limit_s=60.0,
    )
    return replace(whole, **changes)


def test_there_and_back(link: Link) -> None:
    asked = request()
    content, bytes_down = link.server.encode(asked)
    reply = link.decode(link.answer(content), asked)
    (seen,) = link.agent.asked
    assert (seen.run, seen.round, dict(seen.arguments)) == ("run", 2, {"mu": 0.5})
    assert (reply.code, dict(reply.values)) == ("", {"steps": 3})
    for name, tensor in STATE.items():
        np.testing.assert_array_equal(reply.tensors[name], tensor * 2)
        assert reply.tensors[name].dtype == tensor.dtype
        assert reply.tensors[name].shape == tensor.shape
    assert bytes_down > sum(tensor.nbytes for tensor in STATE.values())
    assert reply.bytes_up > sum(tensor.nbytes for tensor in STATE.values())
    link.server.release(reply)
    assert list((link.folder / "exchange" / "up").rglob("*.safetensors")) == []


def test_no_tensors_travel_in_the_message(link: Link) -> None:
    large = {"w": np.zeros(100_000, dtype=np.float32)}
    content, _ = link.server.encode(request(state=large))
    assert len(from_records(content).to_bytes()) < 2000


def test_one_state_is_written_once_for_all_sites(link: Link) -> None:
    link.server.encode(request())
    link.server.encode(request(site=OTHER))
    down = list((link.folder / "exchange" / "down").glob("*"))
    assert len(down) == 1
    link.server.encode(request(state={"w": np.ones(3, dtype=np.float32)}, round=3))
    assert len(list((link.folder / "exchange" / "down").glob("*"))) == 1, "the old one went"


# --- who says so --------------------------------------------------------------------------------


def changed(content: RecordDict, change: Callable[[SignedBody], SignedBody]) -> RecordDict:
    return to_records(change(from_records(content)))


def test_a_request_of_somebody_else_is_not_answered(link: Link) -> None:
    stranger = SignedServer(
        IdentityKey.generate(),
        sites=link.roster,
        blobs=link.blobs,
        max_bytes=1 << 20,
        audit=AuditLog(link.folder / "stranger.jsonl"),
    )
    content, _ = stranger.encode(request())
    with pytest.raises(SignatureError):
        link.answer(content)
    assert link.agent.asked == []


def test_a_changed_request_is_not_answered(link: Link) -> None:
    content, _ = link.server.encode(request())
    body = from_records(content)
    more = body.payload.replace('"round":2', '"round":3')
    assert more != body.payload
    with pytest.raises(SignatureError):
        link.answer(to_records(body.model_copy(update={"payload": more})))
    assert link.agent.asked == []


def test_an_answer_is_no_request(link: Link) -> None:
    """What a key signed for one purpose is of no use for another."""
    content, _ = link.server.encode(request())
    body = from_records(content)
    as_reply = SignedBody.sign(SERVER_KEY, Tag.REPLY, body.payload)
    with pytest.raises(SignatureError):
        link.answer(to_records(as_reply))


@pytest.mark.parametrize("other", [{"site": OTHER}, {"action": Action.VALIDATE}])
def test_a_request_for_another_site_or_action_is_not_answered(link: Link, other: dict) -> None:
    content, _ = link.server.encode(request(**other))
    with pytest.raises(MessageError, match="another site or action"):
        link.answer(content)
    assert link.agent.asked == []


def test_an_answer_in_another_sites_name_is_refused(link: Link) -> None:
    asked = request()
    content, _ = link.server.encode(asked)
    link.site = link.new_site(key=KEYS[OTHER])
    with pytest.raises(SignatureError):
        link.decode(link.answer(content), asked)


def test_an_answer_of_a_site_that_is_not_active_any_more_is_refused(link: Link) -> None:
    asked = request()
    content, _ = link.server.encode(asked)
    answer = link.answer(content)
    del link.roster.active[SITE]
    with pytest.raises(SignatureError, match="not active"):
        link.decode(answer, asked)


def test_an_answer_to_an_earlier_request_is_refused(link: Link) -> None:
    first, second = request(), request(arguments={"mu": 0.25})
    content, _ = link.server.encode(first)
    stale = link.answer(content)
    link.server.encode(second)
    with pytest.raises(MessageError, match="another question"):
        link.decode(stale, second)


def test_a_changed_answer_is_refused(link: Link) -> None:
    asked = request()
    content, _ = link.server.encode(asked)
    body = from_records(link.answer(content))
    more = body.payload.replace('"steps":3', '"steps":4')
    with pytest.raises(SignatureError):
        link.decode(to_records(body.model_copy(update={"payload": more})), asked)


def test_weights_that_did_not_come_or_are_none_are_refused(link: Link) -> None:
    asked = request()
    content, _ = link.server.encode(asked)
    answer = link.answer(content)
    (brought,) = (link.folder / "exchange" / "up" / SITE).glob("*.safetensors")
    whole = brought.read_bytes()
    brought.write_bytes(whole[:-1])
    with pytest.raises(MessageError, match="did not come"):
        link.decode(answer, asked)
    brought.write_bytes(b"\xff" * len(whole))
    with pytest.raises(MessageError, match="no tensors"):
        link.decode(answer, asked)
    brought.unlink()
    with pytest.raises(MessageError, match="did not come"):
        link.decode(answer, asked)


RUBBISH = [
    RecordDict(),
    RecordDict({"fedvol": ConfigRecord({"signed": b""})}),
    RecordDict({"fedvol": ConfigRecord({"signed": b"{}"})}),
    RecordDict({"fedvol": ConfigRecord({"signed": b"\xff\xfe"})}),
    RecordDict({"fedvol": ConfigRecord({"signed": "text"})}),
    RecordDict({"fedvol": ConfigRecord({"signed": b"x" * (5 << 20)})}),
    RecordDict({"fedvol": ConfigRecord({"json": "{}"})}),
    RecordDict({"other": ConfigRecord({"signed": b"{}"})}),
]


@pytest.mark.parametrize("content", RUBBISH)
def test_rubbish_is_refused_at_both_ends(link: Link, content: RecordDict) -> None:
    with pytest.raises((MessageError, IdentityError)):
        link.answer(content)
    with pytest.raises((MessageError, IdentityError)):
        link.decode(content, request())
    assert link.agent.asked == []


@pytest.mark.parametrize("payload", ["{}", "[]", '{"kind":"request"}', '{"kind":"reply"}'])
def test_what_is_signed_but_no_header_is_refused(link: Link, payload: str) -> None:
    with pytest.raises(MessageError, match="schema"):
        link.answer(to_records(SignedBody.sign(SERVER_KEY, Tag.REQUEST, payload)))
    with pytest.raises(MessageError, match="schema"):
        link.decode(to_records(SignedBody.sign(KEYS[SITE], Tag.REPLY, payload)), request())


# --- the same answer again ----------------------------------------------------------------------


def test_the_same_request_has_the_same_answer_and_trains_once(link: Link) -> None:
    asked = request()
    first = link.answer(link.server.encode(asked)[0])
    link.site = link.new_site()  # killed, and started again
    link.server = link.new_server()  # so was the coordinator
    again = link.answer(link.server.encode(asked)[0])
    assert len(link.agent.asked) == 1
    assert from_records(again) == from_records(first)
    assert dict(link.decode(again, asked).values) == {"steps": 3}
    assert link.carrying.brought == 2


def test_another_request_is_answered_anew(link: Link) -> None:
    link.answer(link.server.encode(request())[0])
    link.answer(link.server.encode(request(round=3))[0])
    assert [one.round for one in link.agent.asked] == [2, 3]


def test_a_site_that_agrees_no_more_sends_no_kept_answer(link: Link) -> None:
    asked = request()
    link.answer(link.server.encode(asked)[0])
    link.agreement.withdraw()
    reply = link.decode(link.answer(link.server.encode(asked)[0]), asked)
    assert reply.code == ConsentMissingError.code
    assert not reply.tensors
    assert len(link.agent.asked) == 1


def test_a_refusal_is_thought_over_every_time(link: Link) -> None:
    asked = request()
    link.agent.code = "refuses"
    assert link.decode(link.answer(link.server.encode(asked)[0]), asked).code
    link.agent.code = ""
    assert not link.decode(link.answer(link.server.encode(asked)[0]), asked).code


def test_health_is_looked_at_every_time(link: Link) -> None:
    asked = request(action=Action.HEALTH, state={})
    for _ in range(2):
        link.answer(link.server.encode(asked)[0], Action.HEALTH)
    assert len(link.agent.asked) == 2


def test_health_takes_the_place_of_no_training(link: Link) -> None:
    trained, _ = link.server.encode(request())
    link.answer(trained)
    for number in range(1, 12):
        content, _ = link.server.encode(request(action=Action.HEALTH, round=number, state={}))
        link.answer(content, Action.HEALTH)
        terms = link.agreement.terms(request())
        key = digest_of(from_records(content))
        assert Outbox.is_kept(link.folder / "outbox", key, run=RunId("run"), terms=terms)
    link.answer(trained)
    assert len(link.agent.asked) == 12, "the training was not done twice"


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
def test_a_damaged_kept_answer_is_made_again(link: Link, ending: str) -> None:
    asked = request()
    link.answer(link.server.encode(asked)[0])
    (kept,) = (link.folder / "outbox").rglob(f"*{ending}")
    kept.write_bytes(kept.read_bytes()[:-3])
    reply = link.decode(link.answer(link.server.encode(asked)[0]), asked)
    np.testing.assert_array_equal(reply.tensors["w"], STATE["w"] * 2)


def test_the_outbox_does_not_grow(link: Link) -> None:
    for number in range(1, 12):
        link.answer(link.server.encode(request(round=number))[0])
    assert len(list((link.folder / "outbox").rglob("*.json"))) == 8
    assert len(list((link.folder / "outbox").rglob("*.safetensors"))) == 8
    assert len(list((link.folder / "incoming").glob("*"))) == 1


# --- a link that is down ------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_cut_link_is_waited_out(link: Link, cuts: int) -> None:
    asked = request()
    link.carrying.cuts = cuts
    reply = link.decode(link.answer(link.server.encode(asked)[0]), asked)
    assert not reply.code
    assert len(link.agent.asked) == 1


def test_but_not_beyond_the_limit_of_the_request(link: Link) -> None:
    link.carrying.cuts = 1000
    with pytest.raises(LinkDownError):
        link.answer(link.server.encode(request(limit_s=30.0))[0])


# --- both ends write it down --------------------------------------------------------------------


def test_both_logs_tell_of_the_same_messages(link: Link) -> None:
    for number in (1, 2):
        asked = request(round=number)
        link.decode(link.answer(link.server.encode(asked)[0]), asked)
    found = link.told()
    assert (found.requests.num_both, found.contributions.num_both) == (2, 2)
    lines = [json.loads(line)["event"] for line in link.site_log.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["received", "update", "sent"] * 2
    received, update, sent = lines[:3]
    assert sent["request"] == received["message"]
    assert sent["contribution"] == update["digest"]
    assert received["sender_key"] == SERVER_KEY.public.fingerprint
    assert "" not in (received["tensors"], sent["tensors"])


def test_a_message_that_goes_twice_is_no_contradiction(link: Link) -> None:
    """Both ends were killed meanwhile; and once the answer was lost on its way."""
    asked = request()
    link.answer(link.server.encode(asked)[0])
    for _ in range(2):
        link.site, link.server = link.new_site(), link.new_server()
        link.decode(link.answer(link.server.encode(asked)[0]), asked)
    found = link.told()
    assert (found.requests.num_both, found.contributions.num_both) == (1, 1)
    assert len(link.agent.asked) == 1


def test_an_answer_that_was_computed_twice_went_once(link: Link) -> None:
    """The site was killed after it had written the answer down, and before it kept it."""
    asked = request()
    link.answer(link.server.encode(asked)[0])
    for kept in list((link.folder / "outbox").rglob("*.*")):
        kept.unlink()
    link.decode(link.answer(link.server.encode(asked)[0]), asked)
    assert link.told().contributions.num_both == 1


def test_what_is_turned_away_is_told_with_its_code(link: Link) -> None:
    asked = request()
    content, _ = link.server.encode(asked)
    link.decode(link.answer(content), asked)
    forged = changed(content, lambda body: SignedBody.sign(KEYS[OTHER], Tag.REQUEST, body.payload))
    with pytest.raises(SignatureError):
        link.answer(forged)
    link.site = link.new_site(key=KEYS[OTHER])
    link.agent.code = "refuses"  # so that the answer is not the one that was kept
    link.agreement.tighten()
    with pytest.raises(SignatureError):
        link.decode(link.answer(content), asked)
    with pytest.raises(MessageError):
        link.decode(RecordDict(), asked)
    found = link.told()
    # What was signed by another key is the same message: its digest is that of the payload.
    assert [one.code for one in found.contributions.not_taken] == [SignatureError.code]
    refused = [
        json.loads(line)["event"]
        for log in (link.site_log, link.server_log)
        for line in log.read_text().splitlines()
        if '"code":"FV-' in line
    ]
    assert [(one["kind"], one["code"]) for one in refused] == [
        ("received", SignatureError.code),
        ("reply_refused", SignatureError.code),
        ("reply_refused", MessageError.code),
    ]
    assert refused[0]["sender_key"] == KEYS[OTHER].public.fingerprint
    assert refused[0]["run"] == ""
    assert (refused[2]["message"], refused[2]["request"]) == ("", refused[1]["request"])


def rewritten(path: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """A log whose owner wrote it anew, with another story; its chain holds."""
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    path.unlink()
    log = AuditLog(path)
    for event in events:
        kept = change({key: event[key] for key in event.keys() - {"sequence", "time"}})
        if kept is not None:
            log.append(Said(kept))


@dataclass
class Said:
    """An event as somebody likes it."""

    said: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return self.said


@pytest.mark.parametrize(
    ("side", "kind", "changes"),
    [
        ("site", "sent", None),
        ("site", "sent", {"message": "3" * 64}),
        ("site", "sent", {"tensors": ""}),
        ("site", "sent", {"round": 7}),
        ("site", "update", None),
        ("site", "update", {"digest": "3" * 64}),
        ("server", "request", None),
        ("server", "request", {"plan": "3" * 64}),
        ("server", "reply_taken", {"message": "3" * 64}),
        ("server", "reply_taken", {"action": "query.norms"}),
    ],
)
def test_a_log_that_its_owner_wrote_anew_contradicts_the_other(
    link: Link, side: str, kind: str, changes: dict[str, Any] | None
) -> None:
    asked = request()
    link.decode(link.answer(link.server.encode(asked)[0]), asked)
    link.told()

    def change(event: dict[str, Any]) -> dict[str, Any] | None:
        if event["kind"] != kind:
            return event
        return None if changes is None else event | changes

    rewritten(link.site_log if side == "site" else link.server_log, change)
    assert compare_logs(link.site_log, link.server_log).num_contradictions == 1


def test_nothing_goes_and_nothing_is_used_that_cannot_be_written_down(link: Link) -> None:
    asked = request()
    content, _ = link.server.encode(asked)
    answer = link.answer(content)
    for log in (link.site_log, link.server_log):
        log.write_bytes(log.read_bytes()[:-2] + b"?\n")
    with pytest.raises(AuditError):
        link.answer(content)
    assert len(link.agent.asked) == 1
    with pytest.raises(AuditError):
        link.decode(answer, asked)
    with pytest.raises(AuditError):
        link.server.encode(asked)


def test_an_answer_is_not_kept_before_it_is_written_down(link: Link) -> None:
    def broken(site: SiteId, request: Request) -> Contribution:
        contribution = link.agent(site, request)
        link.site_log.write_bytes(link.site_log.read_bytes()[:-2] + b"?\n")
        return contribution

    content, _ = link.server.encode(request())
    with pytest.raises(AuditError):
        link.site.answer(broken, content, site=SITE, action=Action.FINETUNE.value)
    assert list((link.folder / "outbox").rglob("*.json")) == []
    assert link.carrying.brought == 0
