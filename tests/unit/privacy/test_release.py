import copy
import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from fedvol.audit import AuditRecord
from fedvol.config import SIMULATION_POLICY, SitePolicy
from fedvol.errors import (
    AuditError,
    CaseTableError,
    CohortTooSmallError,
    NonFiniteUpdateError,
    PlanMismatchError,
    Problem,
    ReleaseRefusedError,
    VolumeUnreadableError,
)
from fedvol.federation import (
    Action,
    EvaluationReport,
    Exchange,
    HealthReport,
    MetricSums,
    Request,
    TrainReport,
)
from fedvol.plan import TensorKind, TensorSpec
from fedvol.privacy import (
    Contribution,
    Delivery,
    HeldSubjects,
    JudgedSubjects,
    Kind,
    Releaser,
    Update,
)
from fedvol.types import Digest, RunId, SiteId

PLAN = Digest("a" * 64)
SHARED = (
    TensorSpec(name="conv.weight", shape=(2, 2), dtype="float32", kind=TensorKind.ENCODER),
    TensorSpec(name="conv.bias", shape=(2,), dtype="float32", kind=TensorKind.ENCODER),
)
LOCAL = (TensorSpec(name="norm.weight", shape=(2,), dtype="float64", kind=TensorKind.NORM),)
EXCHANGE = Exchange(shared=SHARED, local=LOCAL)
HOSPITAL = SitePolicy(min_group=5, min_cohort=5)


class MemoryAudit:
    def __init__(self) -> None:
        self.records: list[AuditRecord] = []

    def append(self, record: AuditRecord) -> None:
        self.records.append(record)


class BrokenAudit:
    def append(self, record: AuditRecord) -> None:
        raise AuditError("audit", "the disk is full", "Free some space.")


def releaser(policy: SitePolicy = SIMULATION_POLICY, audit=None) -> Releaser:
    return Releaser(site=SiteId("site_a"), plan=PLAN, policy=policy, audit=audit or MemoryAudit())


def request(action: Action = Action.FINETUNE, **changes) -> Request:
    fields = {
        "run": RunId("r1"),
        "plan": PLAN,
        "stage": 0,
        "round": 2,
        "site": SiteId("site_a"),
        "action": action,
        "state": {},
        "arguments": {},
        "limit_s": 1.0,
    }
    return Request(**{**fields, **changes})


def update(**changes) -> Update:
    tensors = {"conv.bias": np.ones(2, "f4"), "conv.weight": np.ones((2, 2), "f4")}
    held = {name: array for name, array in {**tensors, **changes}.items() if array is not None}
    return Update(tensors=held, report=TrainReport(cases=20, steps=5, train_seconds=1.0, loss=0.4))


def evaluation(
    n: tuple[int, ...],
    cases: int,
    *,
    subjects: tuple[int, ...] | None = None,
    penalised: tuple[int, ...] | None = None,
    undefined_of: tuple[int, ...] | None = None,
    penalised_of: tuple[int, ...] | None = None,
) -> tuple[MetricSums, EvaluationReport, JudgedSubjects]:
    """Cases behind each metric; without `subjects`, each case is a subject of its own."""
    keys = ("dice", "dice/liver", "dice/lesion")[: len(n)]
    counts = np.array([[count, count] for count in n], dtype=np.int64)
    sums = MetricSums(
        keys=keys,
        sums=counts * 0.5,
        counts=counts,
        undefined=cases - counts[:, 0],
        penalised=np.array(penalised or (0,) * len(n)),
        subjects=np.array(subjects or n),
        lone_sites=np.equal(subjects or n, 1).astype(np.int64),
    )
    report = EvaluationReport(
        keys=keys, cases=cases, subjects=max(subjects or (cases,)), evaluate_seconds=1.0
    )
    behind = JudgedSubjects(
        undefined=sums.undefined if undefined_of is None else np.array(undefined_of),
        penalised=sums.penalised if penalised_of is None else np.array(penalised_of),
    )
    return sums, report, behind


def test_update_leaves_as_planned_and_is_recorded() -> None:
    audit = MemoryAudit()
    sent = releaser(audit=audit).update(request(), update(), exchange=EXCHANGE)
    assert sent.kind is Kind.UPDATE
    assert list(sent.tensors) == ["conv.weight", "conv.bias"]
    assert sent.values["cases"] == 20
    (record,) = audit.records
    assert record.form == "plain float32"
    assert (record.run, record.round, record.site, record.recipient) == (
        "r1",
        2,
        "site_a",
        "server",
    )
    assert record.num_tensors == 2
    assert record.size_bytes > 6 * 4
    assert len(record.digest) == 64


def test_digest_of_the_record_binds_tensors_and_values() -> None:
    audit = MemoryAudit()
    gate = releaser(audit=audit)
    gate.update(request(), update(), exchange=EXCHANGE)
    gate.update(request(), update(), exchange=EXCHANGE)
    gate.update(request(), update(**{"conv.bias": np.array([1, 2], "f4")}), exchange=EXCHANGE)
    other = Update(
        tensors=update().tensors, report=update().report.model_copy(update={"loss": 0.5})
    )
    gate.update(request(), other, exchange=EXCHANGE)
    digests = [record.digest for record in audit.records]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_record_names_consent_recipient_and_message() -> None:
    asked: list[tuple] = []

    def message(to, *, values, tensors, code: str, title: str) -> Digest:
        asked.append((to, dict(values), {**tensors}, code, title))
        assert audit.records == []  # it is named first, written down, and only then made
        return Digest("d" * 64)

    audit = MemoryAudit()
    delivery = Delivery(recipient="hub", recipient_key="ab12", consent="c-7", message=message)
    gate = dataclasses.replace(releaser(audit=audit), delivery=delivery)
    sent = gate.update(request(), update(), exchange=EXCHANGE)
    (record,) = audit.records
    assert (record.recipient, record.recipient_key) == ("hub", "ab12")
    assert (record.consent, record.message) == ("c-7", "d" * 64)
    ((to, values, tensors, code, title),) = asked
    assert (to, values, code, title) == (request(), sent.values, "", "")
    assert tensors.keys() == sent.tensors.keys()
    assert all(tensors[name] is sent.tensors[name] for name in tensors)


def test_in_a_simulation_no_message_is_named() -> None:
    audit = MemoryAudit()
    releaser(audit=audit).update(request(), update(), exchange=EXCHANGE)
    (record,) = audit.records
    assert (record.recipient_key, record.consent, record.message) == ("", "", "")


def test_what_left_cannot_be_changed_afterwards() -> None:
    sent = releaser().update(request(), update(), exchange=EXCHANGE)
    with pytest.raises(ValueError, match="read-only"):
        sent.tensors["conv.bias"][0] = 5.0  # type: ignore[index]
    with pytest.raises(TypeError):
        sent.values["cases"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"conv.bias": np.array([1, np.nan], "f4")}, NonFiniteUpdateError),
        ({"conv.bias": np.array([1, -np.inf], "f4")}, NonFiniteUpdateError),
        ({"conv.bias": None}, ReleaseRefusedError),
        ({"norm.weight": np.ones(2, "f4")}, ReleaseRefusedError),
        ({"conv.bias": np.ones(3, "f4")}, ReleaseRefusedError),
        ({"conv.bias": np.ones(2, "f8")}, ReleaseRefusedError),
    ],
)
def test_other_update_stays(changes: dict, error: type[Exception]) -> None:
    audit = MemoryAudit()
    with pytest.raises(error):
        releaser(audit=audit).update(request(), update(**changes), exchange=EXCHANGE)
    assert audit.records == []


def test_norm_bound() -> None:
    norm = np.sqrt(6.0)
    bounded = releaser(SitePolicy(min_group=1, min_cohort=1, max_update_norm=norm - 1e-6))
    with pytest.raises(ReleaseRefusedError, match="norm"):
        bounded.update(request(), update(), exchange=EXCHANGE)
    wide = releaser(SitePolicy(min_group=1, min_cohort=1, max_update_norm=norm + 1e-6))
    assert wide.update(request(), update(), exchange=EXCHANGE).tensors


def test_nothing_leaves_where_the_audit_fails() -> None:
    gate = releaser(audit=BrokenAudit())
    with pytest.raises(AuditError):
        gate.update(request(), update(), exchange=EXCHANGE)
    with pytest.raises(AuditError):
        gate.refusal(request(), AuditError("audit", "the disk is full", "Free some space."))


def test_request_of_another_plan_or_site_is_refused() -> None:
    with pytest.raises(PlanMismatchError):
        releaser().update(request(plan=Digest("b" * 64)), update(), exchange=EXCHANGE)
    with pytest.raises(ReleaseRefusedError, match="another site"):
        releaser().update(request(site=SiteId("site_b")), update(), exchange=EXCHANGE)


def test_cohort_floor() -> None:
    gate = releaser(HOSPITAL)
    gate.require_cohort(5)
    with pytest.raises(CohortTooSmallError):
        gate.require_cohort(4)


def held(training: int, **changes) -> HeldSubjects:
    """Every case of a subject of its own, as in `health`."""
    fields = {"validation": 9, "test": 9, "skipped": {"FV-DATA-003": 4, "FV-DATA-007": 5}}
    return HeldSubjects(training=training, **{**fields, **changes})


def health(subjects: int) -> HealthReport:
    return HealthReport(
        software="0.1.0",
        architecture="0" * 64,
        training_cases=subjects,
        validation_cases=9,
        test_cases=9,
        skipped={"FV-DATA-003": 4, "FV-DATA-007": 5},
    )


def test_health_hides_small_counts_and_small_cohorts() -> None:
    audit = MemoryAudit()
    gate = releaser(HOSPITAL, audit)
    sent = gate.health(request(Action.HEALTH), health(5), behind=held(5))
    assert sent.values["skipped"] == {"FV-DATA-007": 5}
    assert audit.records[0].suppressed == 1
    with pytest.raises(CohortTooSmallError):
        gate.health(request(Action.HEALTH), health(4), behind=held(4))
    sent = gate.health(request(Action.HEALTH), health(0), behind=held(0))
    assert sent.values["training_cases"] == 0


def test_simulation_hides_nothing() -> None:
    sent = releaser().health(request(Action.HEALTH), health(1), behind=held(1))
    assert sent.values["skipped"] == {"FV-DATA-003": 4, "FV-DATA-007": 5}
    sums, report, behind = evaluation((1, 0), 1)
    sent = releaser().evaluation(request(Action.TEST), sums, report, behind=behind)
    assert sent.values["suppressed"] == []
    assert np.all(np.isfinite(sent.tensors["sums"]))


def test_metric_over_few_cases_is_suppressed() -> None:
    audit = MemoryAudit()
    sums, report, behind = evaluation((14, 5, 4), 14)
    sent = releaser(HOSPITAL, audit).evaluation(request(Action.TEST), sums, report, behind=behind)
    assert sent.values["suppressed"] == ["dice/lesion"]
    assert np.all(np.isnan(sent.tensors["sums"][2]))
    assert not sent.tensors["counts"][2].any()
    assert sent.tensors["undefined"][2] == 0
    np.testing.assert_array_equal(sent.tensors["sums"][:2], sums.sums[:2])
    assert audit.records[0].suppressed == 1


def test_many_cases_of_few_patients_are_a_small_group() -> None:
    sums, report, behind = evaluation((40, 30), 40, subjects=(20, 4))
    sent = releaser(HOSPITAL).evaluation(request(Action.TEST), sums, report, behind=behind)
    assert sent.values["suppressed"] == ["dice/liver"]
    assert sent.tensors["subjects"].tolist() == [20, 0]
    sums, report, behind = evaluation((10,), 10, subjects=(1,))
    assert (
        releaser(HOSPITAL).evaluation(request(Action.TEST), sums, report, behind=behind).tensors
        == {}
    )


@pytest.mark.parametrize(
    ("changes", "suppressed"),
    [
        ({"n": (20, 16)}, True),  # 4 undefined cases
        ({"n": (20, 15)}, False),  # 5 of them
        ({"penalised": (0, 4)}, True),
        ({"penalised": (0, 5)}, False),
        ({"n": (40, 30), "cases": 40, "subjects": (20, 19)}, True),  # 10 undefined of one patient
        ({"n": (40, 30), "cases": 40, "subjects": (20, 20)}, False),
        ({"n": (20, 10), "undefined_of": (0, 4)}, True),  # 10 undefined of four patients
        ({"n": (20, 10), "undefined_of": (0, 5)}, False),
        ({"penalised": (0, 12), "penalised_of": (0, 1)}, True),  # 12 penalised of one
    ],
)
def test_few_left_out_or_penalised_are_a_small_group(changes: dict, suppressed: bool) -> None:
    sums, report, behind = evaluation(**{"n": (20, 20), "cases": 20, **changes})
    sent = releaser(HOSPITAL).evaluation(request(Action.TEST), sums, report, behind=behind)
    assert sent.values["suppressed"] == (["dice/liver"] if suppressed else [])
    for name in ("counts", "undefined", "penalised", "subjects", "lone_sites"):
        assert not suppressed or not sent.tensors[name][1].any()


def test_health_withholds_few_validation_and_test_cases() -> None:
    audit = MemoryAudit()
    report = health(9).model_copy(update={"validation_cases": 4, "test_cases": 5, "skipped": {}})
    behind = held(9, validation=4, test=5, skipped={})
    sent = releaser(HOSPITAL, audit).health(request(Action.HEALTH), report, behind=behind)
    assert (sent.values["validation_cases"], sent.values["test_cases"]) == (None, 5)
    assert audit.records[0].suppressed == 1
    report = report.model_copy(update={"validation_cases": 0, "test_cases": 1})
    behind = held(9, validation=0, test=1, skipped={})
    sent = releaser(HOSPITAL).health(request(Action.HEALTH), report, behind=behind)
    assert (sent.values["validation_cases"], sent.values["test_cases"]) == (0, None)
    sent = releaser().health(request(Action.HEALTH), report, behind=behind)
    assert sent.values["test_cases"] == 1


def test_many_cases_of_few_patients_are_hidden_in_health_too() -> None:
    behind = held(9, validation=9, test=1, skipped={"FV-DATA-003": 4, "FV-DATA-007": 2})
    sent = releaser(HOSPITAL).health(request(Action.HEALTH), health(9), behind=behind)
    assert (sent.values["validation_cases"], sent.values["test_cases"]) == (9, None)
    assert sent.values["skipped"] == {}


def test_a_cohort_smaller_than_the_floor_of_figures_does_not_train() -> None:
    gate = releaser(SitePolicy(min_group=5, min_cohort=1))
    gate.require_cohort(5)
    with pytest.raises(CohortTooSmallError):
        gate.require_cohort(4)


def test_evaluation_over_few_cases_leaves_without_figures() -> None:
    sums, report, behind = evaluation((4, 4), 4)
    sent = releaser(HOSPITAL).evaluation(request(Action.TEST), sums, report, behind=behind)
    assert sent.tensors == {}
    assert sent.values["suppressed"] == ["dice", "dice/liver"]
    assert sent.values["cases"] == sent.values["subjects"] == 0


def test_evaluation_must_be_finite_and_belong_to_its_report() -> None:
    sums, report, behind = evaluation((9,), 9)
    with pytest.raises(ReleaseRefusedError):
        releaser().evaluation(
            request(), sums, report.model_copy(update={"keys": ("nsd",)}), behind=behind
        )
    with pytest.raises(NonFiniteUpdateError):
        releaser().evaluation(
            request(), replace(sums, sums=sums.sums * np.nan), report, behind=behind
        )


def test_norms() -> None:
    gate = releaser()
    sent = gate.norms(request(Action.NORMS), {"norm.weight": np.ones(2)}, exchange=EXCHANGE)
    assert list(sent.tensors) == ["norm.weight"]
    with pytest.raises(ReleaseRefusedError):
        gate.norms(request(Action.NORMS), None, exchange=EXCHANGE)
    with pytest.raises(ReleaseRefusedError):
        gate.norms(request(Action.NORMS), {}, exchange=Exchange(shared=SHARED, local=()))


@pytest.mark.parametrize(
    "error",
    [
        VolumeUnreadableError("/data/patients/smith.nii.gz", "broken", "Ask Dr Smith."),
        CaseTableError("smith.csv", [Problem(where="smith", what="smith", fix="Smith.")]),
    ],
)
def test_refusal_carries_code_and_fixed_words_alone(error) -> None:
    audit = MemoryAudit()
    sent = releaser(audit=audit).refusal(request(), error)
    assert (sent.kind, sent.code, sent.title) == (Kind.REFUSAL, error.code, type(error).title)
    assert not sent.values
    assert not sent.tensors
    assert "smith" not in repr(sent).lower()
    assert "smith" not in repr(audit.records).lower()
    assert audit.records[0].code == error.code


def test_nobody_else_makes_a_contribution() -> None:
    fields = {"kind": Kind.UPDATE, "values": {}, "tensors": {}, "code": "", "title": ""}
    with pytest.raises(TypeError):
        Contribution(**fields)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Releaser alone"):
        Contribution(**fields, seal=object())
    sent = releaser().update(request(), update(), exchange=EXCHANGE)
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(sent, tensors={})


def test_raw_update_has_no_serialiser() -> None:
    with pytest.raises(TypeError, match="not serialised"):
        copy.deepcopy(update())
