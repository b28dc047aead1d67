"""A site's side of the fingerprint job: training cases alone, the site's floors, an audit line."""

from dataclasses import replace

import pytest
from case_facts import OPEN_STUDY
from case_facts import case_record as record

from fedvol.audit import AuditRecord
from fedvol.client.fingerprinting import FingerprintAgent
from fedvol.config import SitePolicy
from fedvol.config.loading import parse_open_study
from fedvol.data import CaseRecord
from fedvol.federation import Action, Request
from fedvol.plan import EXTENT, SPACING, Fingerprint, Proposal
from fedvol.privacy import Contribution, Kind
from fedvol.types import Digest, Json, RunId, SiteId

SITE = SiteId("site_a")
PROPOSAL = Proposal(
    software="0.1.0", study=parse_open_study(OPEN_STUDY, where="study.toml"), sites=(SITE,)
)


class Heard:
    """An audit sink and an observer that remember."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.events: list[tuple[str, dict[str, Json]]] = []

    def append(self, record: AuditRecord) -> None:
        self.records.append(record)

    def event(self, name: str, /, **fields: Json) -> None:
        self.events.append((name, fields))


def ask(
    records: list[CaseRecord], *, floor: int = 1, heard: Heard | None = None, **changes
) -> Contribution:
    heard = heard or Heard()
    agent = FingerprintAgent(
        site=SITE,
        proposal=PROPOSAL,
        records=records,
        policy=SitePolicy(min_group=floor, min_cohort=1),
        audit=heard,
        observer=heard,
    )
    fields = {
        "run": RunId("fingerprint"),
        "plan": PROPOSAL.digest,
        "stage": 0,
        "round": 0,
        "site": SITE,
        "action": Action.FINGERPRINT,
        "state": {},
        "arguments": {},
        "limit_s": 1.0,
    }
    return agent.handle(Request(**{**fields, **changes}))


def told(contribution: Contribution) -> Fingerprint:
    assert contribution.kind is Kind.FINGERPRINT, contribution.code
    assert contribution.tensors == {}
    return Fingerprint.model_validate(contribution.values, strict=False)


def test_training_cases_alone_are_counted() -> None:
    """What the model is judged by leaves no trace in its plan; nor do cases that were refused."""
    judged = [
        record(8, split="test", side=128),
        record(9, split="validation", side=128),
        replace(record(7, side=128), verdict="FV-DATA-003", reason="broken"),
        replace(record(6, side=128), label=None, voxels=None, intensities=None),
    ]
    found = told(ask([record(1), record(2), *judged]))
    assert (found.cases, found.subjects) == (2, 2)
    assert found == told(ask([record(1), record(2)]))
    assert found.spacing_mm[0].cells == ((0, SPACING.leaf(1.0), 2),)
    assert found.extent_mm[0].cells == ((0, EXTENT.leaf(64.0), 2),)
    assert [one.voxels for one in found.classes] == [4, 2]


def test_one_audit_line_tells_what_left() -> None:
    heard = Heard()
    ask([record(number) for number in range(11)] + [record(20, side=128)], floor=3, heard=heard)
    (line,) = heard.records
    assert line.kind == "fingerprint"
    assert line.action == "query.fingerprint"
    assert line.plan == PROPOSAL.digest
    assert line.form == "counts in fixed bins"
    assert line.num_tensors == 0
    assert line.suppressed == 3  # the extent along each axis, of which a part is withheld
    assert line.size_bytes > 100


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"action": Action.HEALTH}, "FV-PRIV-"),
        ({"action": Action.FINETUNE}, "FV-PRIV-"),
        ({"plan": Digest("f" * 64)}, "FV-FED-003"),
        ({"site": SiteId("site_b")}, "FV-PRIV-"),
    ],
)
def test_any_other_question_is_refused_with_a_code_alone(changes: dict, code: str) -> None:
    heard = Heard()
    contribution = ask([record(1)], heard=heard, **changes)
    assert contribution.kind is Kind.REFUSAL
    assert contribution.code.startswith(code)
    assert contribution.values == {}
    assert heard.events[0][0] == "site.refused"


def test_a_site_below_its_own_floor_refuses() -> None:
    contribution = ask([record(1), record(2)], floor=3)
    assert contribution.kind is Kind.REFUSAL
    assert contribution.code.startswith("FV-PRIV-")


def test_a_site_without_training_cases_says_so() -> None:
    assert told(ask([record(8, split="test")], floor=3)).cases == 0
