"""The server's side of the fingerprint job: who does not answer well costs only its own part."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from case_facts import CHANNELS, CLASSES, OPEN_STUDY, make_case

from fedvol.config.loading import parse_open_study
from fedvol.errors import QuorumError
from fedvol.federation import Action, Reply, Request
from fedvol.plan import Fingerprint, Proposal
from fedvol.privacy.fingerprints import fingerprint
from fedvol.server import ask_fingerprints
from fedvol.server.fingerprints import LIMIT_S
from fedvol.server.health import LIMIT_PER_SITE_S
from fedvol.types import Json, RunId, SiteId

PROPOSAL = Proposal(
    software="0.1.0",
    study=parse_open_study(OPEN_STUDY, where="study.toml"),
    sites=("a", "b", "c", "d", "e"),
)


def counted(num: int) -> Fingerprint:
    site = [
        make_case(f"S{n}", shape=(64, 64, 64), spacing_mm=(1, 1, 1), voxels=([40.0], [60.0]))
        for n in range(num)
    ]
    return fingerprint(site, channels=CHANNELS, classes=CLASSES, floor=1)


def answer(num: int) -> dict[str, Any]:
    return {"values": counted(num).model_dump(mode="json")}


class Answers:
    """A link whose sites say what the test wants, and an observer that remembers."""

    def __init__(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        self.answers = answers
        self.asked: list[Request] = []
        self.events: list[tuple[str, dict[str, Json]]] = []

    def sites(self) -> tuple[SiteId, ...]:
        return tuple(map(SiteId, self.answers))

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        self.asked += requests
        for site, said in self.answers.items():
            fields: dict[str, Any] = {
                "run": RunId("fingerprint"),
                "stage": 0,
                "round": 0,
                "site": SiteId(site),
                "action": Action.FINGERPRINT,
                "code": "",
                "title": "",
                "tensors": {},
                "values": {},
                "bytes_up": 0,
                "bytes_down": 0,
            }
            yield Reply(**{**fields, **said})

    def event(self, name: str, /, **fields: Json) -> None:
        self.events.append((name, fields))


def ask(link: Answers) -> dict[SiteId, Fingerprint]:
    return ask_fingerprints(link, job=RunId("fingerprint"), proposal=PROPOSAL, observer=link)


def test_sound_answers_come_sorted_and_the_others_are_named() -> None:
    impossible = counted(3).model_copy(update={"subjects": 7}).model_dump(mode="json")
    link = Answers(
        {
            "e": answer(2),
            "b": {"code": "FV-PRIV-002", "title": "too few subjects"},
            "c": {"values": impossible},
            "stranger": answer(9),
            "a": answer(4),
        }
    )
    found = ask(link)
    assert [*found.items()] == [("a", counted(4)), ("e", counted(2))]
    assert {request.plan for request in link.asked} == {PROPOSAL.digest}
    assert [request.site for request in link.asked] == [*PROPOSAL.sites]
    refused = {fields["site"]: fields["code"] for name, fields in link.events if "refused" in name}
    assert refused.keys() == {"b", "c"}
    assert [fields["site"] for name, fields in link.events if name == "site.silent"] == ["d"]
    assert refused["b"] == "FV-PRIV-002"
    told = [fields["site"] for name, fields in link.events if name == "site.fingerprint"]
    assert told == ["e", "a"]


def test_too_few_answers_are_no_plan() -> None:
    link = Answers({"a": answer(4), "b": {"code": "FV-PRIV-002", "title": "too few subjects"}})
    with pytest.raises(
        QuorumError, match="1 of 5 sites told of training cases, the study needs 2"
    ) as caught:
        ask(link)
    assert "b: FV-PRIV-002 too few subjects" in str(caught.value)
    assert "d: " in str(caught.value)


def test_sites_without_training_cases_do_not_make_a_quorum() -> None:
    link = Answers({"a": answer(4), "b": answer(0), "c": answer(0)})
    with pytest.raises(QuorumError, match="b: no training case; c: no training case"):
        ask(link)


def test_while_answers_are_too_few_who_gave_none_is_asked_again() -> None:
    link = Answers({"a": answer(4), "b": {"code": "FV-PRIV-022", "title": "outside hours"}})

    def attempts() -> Iterator[None]:
        yield
        link.answers = {"b": answer(3)}
        yield
        raise AssertionError("enough have answered")

    found = ask_fingerprints(
        link, job=RunId("fingerprint"), proposal=PROPOSAL, observer=link, attempts=attempts()
    )
    assert sorted(found) == ["a", "b"]
    asked = [request.site for request in link.asked]
    assert (asked.count(SiteId("a")), asked.count(SiteId("b"))) == (1, 2)


def test_who_is_left_out_is_not_asked() -> None:
    link = Answers({"a": answer(4), "b": answer(3)})
    left_out = {SiteId(site): "it did not agree" for site in ("c", "d", "e")}
    ask_fingerprints(
        link, job=RunId("fingerprint"), proposal=PROPOSAL, observer=link, left_out=left_out
    )
    assert [request.site for request in link.asked] == ["a", "b"]
    told = [fields["site"] for name, fields in link.events if name == "site.absent"]
    assert told == ["c", "d", "e"]


def test_many_sites_have_more_time_as_one_machine_may_work_for_all() -> None:
    link = Answers({site: answer(30) for site in PROPOSAL.sites})
    ask(link)
    assert {request.limit_s for request in link.asked} == {LIMIT_S + 5 * LIMIT_PER_SITE_S}
