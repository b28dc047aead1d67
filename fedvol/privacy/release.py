"""`Releaser`: the site's policy, then an audit record, then a contribution; in this order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np
from numpy.typing import NDArray

from fedvol.audit import AuditRecord, AuditSink
from fedvol.config import SitePolicy
from fedvol.errors import (
    CohortTooSmallError,
    FedvolError,
    NonFiniteUpdateError,
    PlanMismatchError,
    ReleaseRefusedError,
)
from fedvol.federation import (
    UPDATE_DTYPE,
    EvaluationReport,
    Exchange,
    HealthReport,
    MetricSums,
    Request,
    TrainReport,
    to_arrays,
)
from fedvol.plan import (
    CaseFacts,
    Fingerprint,
    TensorSpec,
    canonical_json,
    digest_json,
    state_digest,
)
from fedvol.privacy.contribution import Contribution, Kind, Update, sealed
from fedvol.privacy.delivery import IN_PROCESS, Delivery
from fedvol.privacy.fingerprints import fingerprint
from fedvol.privacy.floors import is_small
from fedvol.privacy.judged_cases import JudgedCases
from fedvol.privacy.suppression import HeldSubjects, suppress
from fedvol.types import Digest, Json, SiteId, State


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Releaser:
    """Decides for one site and one plan what may leave, and writes it down before it does.

    Every method raises `AuditError` if the record cannot be written; nothing leaves then.

    Attributes:
        site: Whose contributions these are.
        plan: Digest of the plan the site agreed to.
        policy: The site's own floors.
        audit: Where each contribution is recorded.
        delivery: To whom they go, and under which consent.
    """

    site: SiteId
    plan: Digest
    policy: SitePolicy
    audit: AuditSink
    delivery: Delivery = IN_PROCESS

    def require_cohort(self, subjects: int) -> None:
        """Refuse to take part with fewer training subjects than the site's floors.

        Whoever trains tells figures over its cohort, such as the mean loss, so it must be no small
        group either.

        Raises:
            CohortTooSmallError: There are fewer.
        """
        floor = self.policy.floor
        if subjects < floor:
            # The number itself stays here: a refusal carries the code alone.
            raise CohortTooSmallError(
                f"site {self.site}",
                f"{subjects} training subjects, and the site's floors ask for {floor}",
                "Add cases, or lower policy.min_cohort and policy.min_group if the site's rules "
                "allow it.",
            )

    def health(
        self, request: Request, report: HealthReport, *, behind: HeldSubjects
    ) -> Contribution:
        """Release how much data a site has; counts with few subjects behind are left out or null.

        A count of 0 is told: nobody is behind it.

        Args:
            request: What was asked.
            report: Counts of cases.
            behind: Subjects behind them.

        Raises:
            CohortTooSmallError: The site has fewer subjects to train on than its floors; where it
                may pretrain, fewer for that: it sits the finetuning out with fewer labelled ones.
        """
        self._require_request(request)
        few_labels = is_small(behind.training, floor=self.policy.floor)
        if report.pretraining_cases:
            self.require_cohort(behind.pretraining)
            if few_labels:  # it pretrains, and of the few nothing is told
                report = report.model_copy(update={"training_cases": 0})
        elif few_labels:
            self.require_cohort(behind.training)
        floor = self.policy.min_group
        shown = {
            code: count
            for code, count in report.skipped.items()
            if not is_small(behind.skipped[code], floor=floor)
        }
        judged = {"validation_cases": behind.validation, "test_cases": behind.test}
        hidden = {name: None for name, num in judged.items() if is_small(num, floor=floor)}
        released = report.model_copy(update={"skipped": shown, **hidden})
        return self._release(
            request,
            Kind.HEALTH,
            values=released.model_dump(mode="json"),
            suppressed=len(report.skipped) - len(shown) + len(hidden),
        )

    def fingerprint(
        self,
        request: Request,
        cases: Sequence[CaseFacts],
        *,
        channels: Sequence[str],
        classes: Sequence[str],
    ) -> Contribution:
        """Release counts over the training cases; no figure has few subjects behind it.

        Args:
            request: What was asked.
            cases: Facts of the labelled training cases.
            channels: Names of the channels, in order.
            classes: Names of the classes, in order of their index.

        Raises:
            CohortTooSmallError: There are training subjects, but fewer than the site's floors.
        """
        self._require_request(request)
        subjects = len({case.subject for case in cases})
        if subjects:
            self.require_cohort(subjects)
        released = fingerprint(
            cases, channels=channels, classes=classes, floor=self.policy.min_group
        )
        return self._release(
            request,
            Kind.FINGERPRINT,
            values=released.model_dump(mode="json"),
            form="counts in fixed bins",
            suppressed=len(released.withheld) + _num_withheld(released),
        )

    def update(self, request: Request, update: Update, *, exchange: Exchange) -> Contribution:
        """Release an update of exactly the tensors that travel. Call `require_cohort` first.

        The site's bound holds for the norm of everything that leaves at once, companions of the
        weights included.

        Raises:
            NonFiniteUpdateError: It holds NaN or infinite values.
            ReleaseRefusedError: Names, shapes or types are not those of the exchange, or its norm
                is above the site's bound.
        """
        self._require_request(request)
        self._require_exactly(update.tensors, exchange.up, dtype=UPDATE_DTYPE)
        self._require_norm(update.tensors)
        return self._release(
            request,
            Kind.UPDATE,
            values=update.report.model_dump(mode="json"),
            tensors={spec.name: update.tensors[spec.name] for spec in exchange.up},
            form=" with ".join((f"plain {UPDATE_DTYPE}", *exchange.companions)),
        )

    def report(self, request: Request, report: TrainReport) -> Contribution:
        """Release how a training went whose model stays. Call `require_cohort` first."""
        self._require_request(request)
        return self._release(request, Kind.REPORT, values=report.model_dump(mode="json"))

    def norms(self, request: Request, tensors: State | None, *, exchange: Exchange) -> Contribution:
        """Release the tensors that stayed local, once, at the end of a stage.

        Args:
            request: What was asked.
            tensors: The site's local tensors; None if it has none.
            exchange: Names them.

        Raises:
            NonFiniteUpdateError: They hold NaN or infinite values.
            ReleaseRefusedError: They are not those of the exchange.
        """
        self._require_request(request)
        held = tensors or {}
        self._require_exactly(held, exchange.local, dtype=None)
        return self._release(
            request,
            Kind.NORMS,
            values={},
            tensors={spec.name: held[spec.name] for spec in exchange.local},
            form="plain, own types",
        )

    def evaluation(
        self,
        request: Request,
        sums: MetricSums,
        report: EvaluationReport,
        *,
        behind: JudgedCases,
    ) -> Contribution:
        """Release sums over cases; `suppress` withholds those over few subjects.

        Args:
            request: What was asked.
            sums: Sums over the site's cases.
            report: What they mean.
            behind: The cases and whose they are.

        Raises:
            ReleaseRefusedError: Sums and report name other metrics.
            NonFiniteUpdateError: A sum is NaN or infinite.
        """
        self._require_request(request)
        if sums.keys != report.keys or report.suppressed:
            raise self._refused("sums and report of an evaluation do not belong together")
        if not np.all(np.isfinite(sums.sums)):
            raise self._not_finite("a sum of an evaluation")
        kept, said = suppress(sums, report, behind=behind, floor=self.policy.min_group)
        return self._release(
            request,
            Kind.EVALUATION,
            values=said.model_dump(mode="json"),
            tensors=to_arrays(kept)[0] if kept is not None else {},
            form="sums over cases",
            suppressed=len(said.suppressed),
        )

    def refusal(self, request: Request, error: FedvolError) -> Contribution:
        """Release that the site does not answer: a code and its class's fixed words, no text."""
        kind = type(error)
        return self._release(request, Kind.REFUSAL, values={}, code=kind.code, title=kind.title)

    # --- checks -------------------------------------------------------------------------------

    def _require_request(self, request: Request) -> None:
        if request.plan != self.plan:
            raise PlanMismatchError(
                f"site {self.site}", "the request is of another plan", "Agree to that plan first."
            )
        if request.site != self.site:
            raise self._refused("the request is for another site")

    def _require_exactly(
        self, tensors: State, specs: Sequence[TensorSpec], *, dtype: str | None
    ) -> None:
        if set(tensors) != {spec.name for spec in specs} or not specs:
            raise self._refused("the tensors are not those that the plan lets travel")
        for spec in specs:
            tensor = tensors[spec.name]
            if tensor.shape != spec.shape or tensor.dtype != np.dtype(dtype or spec.dtype):
                raise self._refused(f"tensor {spec.name} is not of the planned shape and type")
            if not np.all(np.isfinite(tensor)):
                raise self._not_finite(f"tensor {spec.name}")

    def _require_norm(self, tensors: State) -> None:
        bound = self.policy.max_update_norm
        if bound is None:
            return
        squares = (np.square(tensor, dtype=np.float64).sum() for tensor in tensors.values())
        norm = float(np.sqrt(sum(map(float, squares))))
        if norm > bound:
            raise self._refused(f"the update's norm {norm:.4g} is above the bound {bound:.4g}")

    def _refused(self, what: str) -> ReleaseRefusedError:
        return ReleaseRefusedError(
            f"site {self.site}", what, "Check that site and plan are of one fedvol version."
        )

    def _not_finite(self, what: str) -> NonFiniteUpdateError:
        return NonFiniteUpdateError(
            f"site {self.site}",
            f"{what} holds NaN or infinite values",
            "Lower the learning rate, or look at the site's data.",
        )

    # --- the only way out ---------------------------------------------------------------------

    def _release(
        self,
        request: Request,
        kind: Kind,
        *,
        values: Mapping[str, Json],
        tensors: State = MappingProxyType({}),
        form: str = "values",
        suppressed: int = 0,
        code: str = "",
        title: str = "",
    ) -> Contribution:
        frozen = {name: _read_only(tensor) for name, tensor in tensors.items()}
        said = dict(values)
        header = canonical_json({"values": said, "code": code, "title": title})
        digest = digest_json([header.decode(), state_digest(frozen)])
        self.audit.append(
            AuditRecord(
                kind=kind.value,
                site=self.site,
                recipient=self.delivery.recipient,
                run=request.run,
                plan=request.plan,
                stage=request.stage,
                round=request.round,
                action=request.action.value,
                form=form,
                num_tensors=len(frozen),
                size_bytes=len(header) + sum(tensor.nbytes for tensor in frozen.values()),
                digest=digest,
                suppressed=suppressed,
                code=code,
                recipient_key=self.delivery.recipient_key,
                consent=self.delivery.consent,
            )
        )
        return sealed(
            kind,
            values=MappingProxyType(said),
            tensors=MappingProxyType(frozen),
            digest=digest,
            code=code,
            title=title,
        )


def _num_withheld(released: Fingerprint) -> int:
    """Histograms of which a part is withheld."""
    axes = (*released.spacing_mm, *released.extent_mm)
    histograms = (*axes, *(channel.histogram for channel in released.channels))
    return sum(1 for histogram in histograms if histogram.withheld)


def _read_only(array: NDArray[np.generic]) -> NDArray[np.generic]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
