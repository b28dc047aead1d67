import copy
import dataclasses
from collections.abc import Sequence
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
    JudgedCases,
    Kind,
    Releaser,
    Update,
)
from fedvol.types import CaseId, Digest, RunId, SiteId, SubjectId
from fedvol.validation import CaseMetrics, cases_behind, summarise

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
    *rows: tuple[str, float | None, float | None],
) -> tuple[MetricSums, EvaluationReport, JudgedCases]:
    """Of each case: whose it is, and Dice of liver and of lesion; 0 is a penalised one."""
    keys = ("dice", "dice/liver", "dice/lesion")
    judged = [
        CaseMetrics(
            case=CaseId(f"case {number}"),
            subject=SubjectId(subject),
            values={
                "dice": sum(defined) / len(defined) if (defined := _defined(both)) else None,
                "dice/liver": both[0],
                "dice/lesion": both[1],
            },
            penalised=frozenset(
                {key for key, value in zip(keys[1:], both, strict=True) if value == 0}
                | ({"dice"} if 0.0 in both else set())
            ),
        )
        for number, (subject, *both) in enumerate(rows)
    ]
    sums = summarise(judged, keys=keys, replicates=20, key=PLAN, site=SiteId("site_a"))
    report = EvaluationReport(keys=keys, cases=len(judged), evaluate_seconds=1.0)
    return sums, report, cases_behind(judged, keys=keys)


def _defined(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def plain(num: int, *, cases: int = 1) -> list[tuple[str, float, float]]:
    """Subjects whose cases have both classes."""
    return [(f"S{n}", 0.5 + n / 100, 0.25) for n in range(num) for _ in range(cases)]


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


def test_the_record_names_consent_and_recipient_and_the_contribution_the_record() -> None:
    audit = MemoryAudit()
    delivery = Delivery(recipient="hub", recipient_key="ab12", consent="c-7")
    gate = dataclasses.replace(releaser(audit=audit), delivery=delivery)
    sent = gate.update(request(), update(), exchange=EXCHANGE)
    (record,) = audit.records
    assert (record.recipient, record.recipient_key, record.consent) == ("hub", "ab12", "c-7")
    assert sent.digest == record.digest


def test_in_a_simulation_nobody_is_asked_for_consent() -> None:
    audit = MemoryAudit()
    releaser(audit=audit).update(request(), update(), exchange=EXCHANGE)
    (record,) = audit.records
    assert (record.recipient_key, record.consent) == ("", "")


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
    return HeldSubjects(training=training, pretraining=training, **{**fields, **changes})


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
    sums, report, behind = evaluation(("S", 0.5, None))
    sent = releaser().evaluation(request(Action.TEST), sums, report, behind=behind)
    assert sent.values["suppressed"] == []
    np.testing.assert_array_equal(sent.tensors["sums"], sums.sums)
    np.testing.assert_array_equal(sent.tensors["counts"], sums.counts)


def suppressed(*rows: tuple[str, float | None, float | None], audit=None) -> list[str]:
    sums, report, behind = evaluation(*rows)
    gate = releaser(HOSPITAL, audit)
    sent = gate.evaluation(request(Action.TEST), sums, report, behind=behind)
    hidden = sent.values["suppressed"]
    assert isinstance(hidden, list)
    for row, key in enumerate(sums.keys):
        is_hidden = key in hidden
        assert np.all(np.isnan(sent.tensors["sums"][row])) == is_hidden
        for name in ("counts", "undefined", "penalised", "lone_sites"):
            assert not is_hidden or not sent.tensors[name][row].any()
        if not is_hidden:
            assert sent.tensors["sums"][row, 0] == sums.sums[row, 0]
            assert sent.tensors["counts"][row, 0] == sums.counts[row, 0]
    return [str(key) for key in hidden]


def test_where_every_case_has_every_class_nothing_is_suppressed() -> None:
    audit = MemoryAudit()
    assert suppressed(*plain(5), audit=audit) == []
    assert audit.records[0].suppressed == 0
    assert audit.records[0].num_tensors == 5


def test_how_many_subjects_there_are_does_not_leave() -> None:
    sums, report, behind = evaluation(*plain(6, cases=2))
    sent = releaser(HOSPITAL).evaluation(request(Action.TEST), sums, report, behind=behind)
    assert sent.values["cases"] == 12
    assert "subjects" not in sent.values.keys() | sent.tensors.keys()


def test_how_many_cases_few_subjects_have_does_not_leave() -> None:
    sums, report, behind = evaluation(*plain(6), ("S1", 0.9, 0.9), ("S1", 0.8, 0.8))
    assert len(set(sums.counts[0, 1:].tolist())) > 1
    sent = releaser(HOSPITAL).evaluation(request(Action.TEST), sums, report, behind=behind)
    assert set(sent.tensors["counts"][0].tolist()) == {8}
    found = replace(sums, sums=sent.tensors["sums"], counts=sent.tensors["counts"])
    np.testing.assert_allclose(found.replicates("dice"), sums.replicates("dice"))


def test_class_of_few_subjects_is_suppressed_and_what_would_tell_it() -> None:
    audit = MemoryAudit()
    some = [("L1", 0.5, 0.5), ("L2", 0.5, 0.5), ("L2", 0.5, 0.5)]
    rows = [(name, liver, None) for name, liver, _ in plain(9)]
    # The mean less the liver would be the lesion of two patients: one of the two must go.
    assert suppressed(*rows, *some, audit=audit) == ["dice/liver", "dice/lesion"]
    assert audit.records[0].suppressed == 2


@pytest.mark.parametrize(
    ("odd", "hidden"),
    [
        ([(f"O{n}", 0.5, None) for n in range(4)], ["dice/lesion"]),  # undefined of four patients
        ([(f"O{n}", 0.5, None) for n in range(5)], []),
        ([("O", 0.5, None)] * 10, ["dice/lesion"]),  # ten cases of one
        ([(f"O{n}", 0.5, 0.0) for n in range(4)], ["dice", "dice/lesion"]),  # penalised
        ([(f"O{n}", 0.5, 0.0) for n in range(5)], []),
        ([("O", 0.5, 0.0)] * 12, ["dice", "dice/lesion"]),
    ],
)
def test_few_left_out_or_penalised_are_a_small_group(odd: list, hidden: list[str]) -> None:
    assert suppressed(*plain(20), *odd) == hidden


def test_few_that_are_not_penalised_are_a_small_group_too() -> None:
    missed = [(f"M{n}", 0.5, 0.0) for n in range(20)]
    # The sum of Dice is that of the four others alone.
    assert "dice/lesion" in suppressed(*plain(4), *missed)


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


def test_evaluation_over_few_subjects_leaves_without_figures() -> None:
    sums, report, behind = evaluation(*plain(4, cases=3))
    sent = releaser(HOSPITAL).evaluation(request(Action.TEST), sums, report, behind=behind)
    assert sent.tensors == {}
    assert sent.values["suppressed"] == ["dice", "dice/liver", "dice/lesion"]
    assert sent.values["cases"] == 0


def test_evaluation_must_be_finite_and_belong_to_its_report() -> None:
    sums, report, behind = evaluation(*plain(9))
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
    fields = {"kind": Kind.UPDATE, "values": {}, "tensors": {}}
    fields |= {"digest": "", "code": "", "title": ""}
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


def test_a_site_with_few_labels_and_many_scans_pretrains_and_tells_no_label() -> None:
    report = health(4).model_copy(update={"pretraining_cases": 10})
    gate = releaser(HOSPITAL)
    sent = gate.health(request(Action.HEALTH), report, behind=replace(held(4), pretraining=10))
    assert (sent.values["training_cases"], sent.values["pretraining_cases"]) == (0, 10)
    report = health(5).model_copy(update={"pretraining_cases": 10})
    sent = gate.health(request(Action.HEALTH), report, behind=replace(held(5), pretraining=10))
    assert (sent.values["training_cases"], sent.values["pretraining_cases"]) == (5, 10)


@pytest.mark.parametrize(("subjects", "leaves"), [(5, True), (4, False)])
def test_a_site_that_only_pretrains_has_its_floor_too(subjects: int, leaves: bool) -> None:
    report = health(0).model_copy(update={"pretraining_cases": subjects})
    behind = replace(held(0), pretraining=subjects)
    gate = releaser(HOSPITAL)
    if leaves:
        sent = gate.health(request(Action.HEALTH), report, behind=behind)
        assert sent.values["pretraining_cases"] == subjects
    else:
        with pytest.raises(CohortTooSmallError):
            gate.health(request(Action.HEALTH), report, behind=behind)
