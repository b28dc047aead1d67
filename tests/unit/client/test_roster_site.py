"""The same request gets the same answer, but not across a change of the site's policy."""

from pathlib import Path

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
from tiny import tiny_study

from fedvol.audit import AuditLog
from fedvol.client.site_worker import RosterSite
from fedvol.errors import FedvolError
from fedvol.federation import Action, Request
from fedvol.identity import Tag
from fedvol.privacy import Contribution
from fedvol.privacy.contribution import Kind, sealed
from fedvol.site import Gate, take_roster
from fedvol.store import SiteStore
from fedvol.transport.headers import request_header
from fedvol.transport.network.signed_records import from_records, sign_header, to_records
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

    def bring(self, path: Path, *, digest: Digest) -> None:
        raise AssertionError("no weights are brought")


def never(request: Request, error: FedvolError) -> Contribution:
    raise AssertionError("nothing was to be refused") from error


def test_a_kept_answer_does_not_outlive_the_policy_it_was_given_under(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    add_to_config(held, source_toml(tmp_path))
    assert server.roster is not None
    take_roster(held, server.roster, audit=Noted(), now=now())
    keep_proposal(held, server, "p1", PLAN)
    approve(held, "p1")
    given: list[int] = []

    def handle(site: SiteId, request: Request) -> Contribution:
        given.append(len(given))
        return sealed(
            Kind.EVALUATION, values={"number": len(given)}, tensors={}, digest=Digest("2" * 64)
        )

    with SiteStore(held.store_file) as store:
        audit = AuditLog(held.audit_file)
        site = RosterSite(
            held,
            held.identity(),
            blobs=NoBlobs(),
            gate=Gate(held, store, audit=audit),
            audit=audit,
            refuses=never,
        )
        asked = to_records(sign_header(server.identity, Tag.REQUEST, request_header(REQUEST)))

        def answer() -> str:
            said = site.answer(handle, asked, site=SITE, action=Action.VALIDATE.value)
            return from_records(said).payload

        first = answer()
        assert answer() == first
        text = held.config_file.read_text()
        held.config_file.write_text(text.replace("min_group = 10", "min_group = 20"))
        second = answer()
        assert answer() == second != first
        held.config_file.write_text(text)
        assert answer() not in (first, second)
    assert len(given) == 3
