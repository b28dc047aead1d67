"""A refusal is told once, in the site's own words where they are heard."""

import json
from pathlib import Path

import pytest
from case_facts import OPEN_STUDY, case_record

from fedvol.audit import AuditRecord
from fedvol.client.fingerprinting import FingerprintAgent
from fedvol.config import SitePolicy
from fedvol.config.loading import parse_open_study
from fedvol.errors import CohortTooSmallError, QuorumError
from fedvol.plan import Proposal
from fedvol.simulation.federate import gather_fingerprints
from fedvol.simulation.told_once import ToldOnce
from fedvol.telemetry import Broadcast, JsonLines
from fedvol.types import Json, RunId, SiteId

OWN = {"site": "a", "round": 1, "code": "FV-PRIV-001", "title": "too few", "detail": "3 of 10"}
SERVERS = {**OWN, "detail": ""}


class Heard:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Json]]] = []

    def event(self, name: str, /, **fields: Json) -> None:
        self.events.append((name, fields))


class NoAudit:
    def append(self, record: AuditRecord) -> None:
        pass


def passed_on(*events: dict[str, Json]) -> list[dict[str, Json]]:
    heard = Heard()
    once = ToldOnce(heard)
    for fields in events:
        once.event("site.refused", **fields)
    return [fields for _, fields in heard.events]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([OWN, SERVERS], [OWN]),
        ([SERVERS], [SERVERS]),  # the site is not heard
        ([OWN, SERVERS, OWN, SERVERS], [OWN, OWN]),  # the round is tried again
        ([OWN, SERVERS, SERVERS], [OWN, SERVERS]),
        ([OWN, {**SERVERS, "site": "b"}], [OWN, {**SERVERS, "site": "b"}]),
        ([OWN, {**SERVERS, "round": 2}], [OWN, {**SERVERS, "round": 2}]),
        ([OWN, {**SERVERS, "code": "FV-FED-005"}], [OWN, {**SERVERS, "code": "FV-FED-005"}]),
    ],
)
def test_the_servers_word_follows_the_sites_or_stands_for_it(
    events: list[dict[str, Json]], expected: list[dict[str, Json]]
) -> None:
    assert passed_on(*events) == expected


def test_other_events_pass() -> None:
    heard = Heard()
    once = ToldOnce(heard)
    for _ in range(2):
        once.event("site.silent", site="a", round=1)
    assert len(heard.events) == 2


def test_terminal_and_file_have_a_sites_refusal_once(tmp_path: Path) -> None:
    """Real agents over real Flower apps in this process; their floor is above what they have."""
    sites = (SiteId("a"), SiteId("b"))
    proposal = Proposal(
        software="0.1.0", study=parse_open_study(OPEN_STUDY, where="study.toml"), sites=sites
    )
    terminal, path = Heard(), tmp_path / "events.jsonl"
    with JsonLines(path) as file:
        observer = ToldOnce(Broadcast([terminal, file]))
        agents = {
            site: FingerprintAgent(
                site=site,
                proposal=proposal,
                records=[case_record(1, site=site), case_record(2, site=site)],
                policy=SitePolicy(min_group=3, min_cohort=1),
                audit=NoAudit(),
                observer=observer,
            )
            for site in sites
        }
        with pytest.raises(QuorumError):
            gather_fingerprints(proposal, agents, job=RunId("job"), observer=observer)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for told in (
        [fields for name, fields in terminal.events if name == "site.refused"],
        [line for line in lines if line["event"] == "site.refused"],
    ):
        assert sorted(str(fields["site"]) for fields in told) == ["a", "b"]
        for fields in told:
            assert fields["code"] == CohortTooSmallError.code
            assert "2 training subjects" in str(fields["detail"])
