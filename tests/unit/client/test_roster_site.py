"""The same request gets the same answer, but not across a change of the site's mind."""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from audit_logs import Noted
from hospital import (
    SITE,
    Server,
    add_to_config,
    approve,
    joined,
    keep_proposal,
    now,
    plain_plan,
    source_toml,
)
from tiny import Events, tiny_study

from fedvol.audit import AuditLog
from fedvol.client.site_departures import SiteDepartures
from fedvol.client.site_worker import RosterSite
from fedvol.errors import FedvolError, SiteFailedError
from fedvol.federation import Action, Request
from fedvol.identity import IdentityKey, Tag
from fedvol.privacy import Contribution
from fedvol.privacy.contribution import Kind, sealed
from fedvol.site import Answering, Gate, SiteFolder, pause, resume, take_roster
from fedvol.store import SiteStore
from fedvol.transport.engine import Message, RecordDict, set_task_identity
from fedvol.transport.flower import failed_reply
from fedvol.transport.headers import ReplyHeader, request_header
from fedvol.transport.network.signed_records import (
    digest_of,
    from_records,
    open_header,
    sign_header,
    to_records,
)
from fedvol.types import Digest, RunId, SiteId

PLAN = plain_plan(tiny_study())
REQUEST = Request(
    run=RunId("p1"),
    plan=PLAN.digest,
    stage=0,
    round=1,
    site=SITE,
    action=Action.VALIDATE,
    state={},
    arguments={},
    limit_s=60.0,
)


class NoBlobs:
    def fetch(self, digest: Digest, *, size_bytes: int, target: Path) -> None:
        raise AssertionError("no weights are fetched")

    def bring(self, path: Path, *, digest: Digest, before_piece: Callable[[], None]) -> None:
        raise AssertionError("no weights are brought")


@dataclass
class World:
    """A site that approved run `p1`, and whoever asks it the same thing again and again."""

    held: SiteFolder
    server: Server
    store: SiteStore
    given: int = 0

    def __post_init__(self) -> None:
        self.audit = AuditLog(self.held.audit_file)
        self.gate = Gate(self.held, self.store, audit=self.audit, wait=lambda _: None)
        self.site = RosterSite(
            self.held,
            self.held.identity(),
            blobs=NoBlobs(),
            gate=self.gate,
            audit=self.audit,
            refuses=self.refuse,
        )
        header = request_header(REQUEST)
        self.asked = to_records(sign_header(self.server.identity, Tag.REQUEST, header))

    def handle(self, site: SiteId, request: Request) -> Contribution:
        self.given += 1
        values = {"number": self.given}
        return sealed(Kind.EVALUATION, values=values, tensors={}, digest=Digest("2" * 64))

    def refuse(self, request: Request, error: FedvolError) -> Contribution:
        digest = Digest("3" * 64)
        return sealed(
            Kind.REFUSAL, values={}, tensors={}, digest=digest, code=error.code, title=error.title
        )

    def answer(self) -> RecordDict:
        return self.site.answer(self.handle, self.asked, site=SITE, action=Action.VALIDATE.value)

    def number(self) -> int:
        """Which of the handled requests the answer is of."""
        values = json.loads(from_records(self.answer()).payload)["values"]
        return int(values["number"])

    def code(self) -> str:
        return str(json.loads(from_records(self.answer()).payload)["code"])

    def withdraw(self) -> None:
        held = self.held
        answering = Answering(folder=held, store=self.store, key=held.identity())
        answering.withdraw("p1", by="x", reason="", now=now())


@pytest.fixture
def world(tmp_path: Path) -> Generator[World]:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    add_to_config(held, source_toml(tmp_path))
    assert server.roster is not None
    take_roster(held, server.roster, audit=Noted(), now=now())
    keep_proposal(held, server, "p1", PLAN)
    approve(held, "p1")
    with SiteStore(held.store_file) as store:
        yield World(held, server, store)


def test_a_kept_answer_does_not_outlive_the_policy_it_was_given_under(world: World) -> None:
    assert (world.number(), world.number()) == (1, 1)
    text = world.held.config_file.read_text()
    world.held.config_file.write_text(text.replace("min_group = 10", "min_group = 20"))
    assert (world.number(), world.number()) == (2, 2)
    world.held.config_file.write_text(text)
    assert world.number() == 3


def test_a_kept_answer_needs_what_a_new_one_would(world: World) -> None:
    assert world.number() == 1
    text = world.held.config_file.read_text()
    for changed, code in (
        (text.replace("min_cohort = 10", "max_rounds = 1"), "FV-PRIV-020"),
        ("no toml", "FV-CONF-001"),
    ):
        world.held.config_file.write_text(changed)
        assert world.code() == code
    world.held.config_file.write_text(text)
    pause(world.held, by="x", reason="", now=now())
    assert world.code() == "FV-PRIV-023"
    resume(world.held, by="x", reason="")
    world.withdraw()
    assert world.code() == "FV-PRIV-021"
    assert world.given == 1


def test_a_kept_answer_is_not_that_of_a_new_approval(world: World) -> None:
    assert world.number() == 1
    world.withdraw()
    approve(world.held, "p1")
    assert world.number() == 2


def departing(world: World) -> tuple[SiteDepartures, Message, Message]:
    """What brings answers, the request, and the answer to it."""
    events = Events()
    site = SiteDepartures(
        world.held,
        world.held.identity(),
        site=SITE,
        gate=world.gate,
        audit=world.audit,
        observer=events,
    )
    set_task_identity(run=1, node=7)
    asked = Message(world.asked, 7, Action.VALIDATE.value)
    return site, asked, Message(world.answer(), reply_to=asked)


def withdraw_and_approve(world: World) -> None:
    world.withdraw()
    approve(world.held, "p1")


def tighten(world: World) -> None:
    text = world.held.config_file.read_text()
    world.held.config_file.write_text(text.replace("min_group = 10", "min_group = 20"))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (World.withdraw, "FV-PRIV-021"),
        (lambda world: pause(world.held, by="x", reason="", now=now()), "FV-PRIV-023"),
        (tighten, "FV-PRIV-020"),
        (withdraw_and_approve, "FV-PRIV-020"),
    ],
)
def test_what_waited_for_the_link_leaves_under_its_own_terms_alone(
    world: World, change: Callable[[World], None], code: str
) -> None:
    departures, asked, answer = departing(world)
    assert departures.cleared(answer, to=asked) is answer
    change(world)
    leaving = departures.cleared(answer, to=asked)
    key = world.held.identity().public
    said = open_header(
        from_records(leaving.content), Tag.REPLY, ReplyHeader, signer=key, where="reply"
    )
    assert (said.code, said.values, said.tensors) == (code, {}, None)
    assert said.request == digest_of(from_records(world.asked))
    assert departures.cleared(leaving, to=asked) is leaving
    lines = [json.loads(line)["event"] for line in world.held.audit_file.read_text().splitlines()]
    kinds = [(one["kind"], one["code"]) for one in lines if one.get("code")]
    assert kinds == [("policy", code), ("refusal", code)]


def test_a_failure_of_the_worker_is_the_sites_own_word(world: World) -> None:
    departures, asked, _ = departing(world)
    leaving = departures.cleared(failed_reply(asked), to=asked)
    key = world.held.identity().public
    said = open_header(
        from_records(leaving.content), Tag.REPLY, ReplyHeader, signer=key, where="reply"
    )
    assert said.code == SiteFailedError.code
    assert said.request == digest_of(from_records(world.asked))


def test_what_nobody_can_be_sure_of_is_answered_without_a_signature(world: World) -> None:
    departures, asked, _ = departing(world)
    stranger = sign_header(IdentityKey.generate(), Tag.REQUEST, request_header(REQUEST))
    forged = Message(to_records(stranger), 7, Action.VALIDATE.value)
    error = SiteFailedError("site", "it failed", "See its log.")
    assert departures.failure(forged, error).has_error()
    assert not departures.failure(asked, error).has_error()
    world.held.audit_file.write_text("no log\n")
    assert departures.failure(asked, error).has_error()
