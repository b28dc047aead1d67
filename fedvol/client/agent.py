"""`SiteAgent`: answers the server's questions with this site's cases, policy and audit log."""

import time
from pathlib import Path

import fedvol
from fedvol.audit import AuditSink
from fedvol.client.cases import SiteCase, SiteCases
from fedvol.client.judging import inference_window, judge, rows_path
from fedvol.client.local_state import LocalState
from fedvol.client.local_training import (
    OnStep,
    SiteWork,
    load_global,
    require_planned,
    train_round,
)
from fedvol.client.personal_training import personal_start, personalise_round
from fedvol.client.plan_network import PlanNetwork
from fedvol.client.planned import require_in_plan
from fedvol.client.pretraining import judge_pretext, pretext_source
from fedvol.client.refusing import refuse
from fedvol.client.starting import learning_tensors, moments_since
from fedvol.config import SitePolicy
from fedvol.config.strategy import Finetune, Personalise, Pretrain
from fedvol.data.batch import Batch
from fedvol.data.sampling import PatchSource
from fedvol.data.unlabelled import UnlabelledSource
from fedvol.errors import FedvolError, NoLabelsError, ReleaseRefusedError
from fedvol.federation import Action, Exchange, HealthReport, Request, plan_exchange
from fedvol.models import describe
from fedvol.plan import NetworkDescription, Plan, num_classes, selection_metrics
from fedvol.privacy import IN_PROCESS, Contribution, Delivery, Releaser
from fedvol.privacy.floors import is_small
from fedvol.ssl import build_pretext
from fedvol.tasks import build_objective
from fedvol.telemetry import Observer
from fedvol.training import place
from fedvol.types import Digest, RunId, SiteId, State
from fedvol.validation import Predictor, single


class SiteAgent:
    """One site's side of one run.

    Everything it returns went through its `Releaser`: the site's policy and its audit log.

    Args:
        site: Which site it is.
        plan: The plan it agreed to; any other is refused.
        cases: The site's usable cases.
        folder: The site's own folder; local state, checkpoints and rows stay in it.
        policy: The site's own floors.
        audit: Where every release is recorded before it leaves.
        resampling_key: Seed of bootstrap resamples. At a hospital a secret of the site: whoever
            knows the draws can solve the replicates' sums for every subject's figure.
        observer: Hears of progress, at the site.
        network: The plan's network, on its device; agents of one process may share it.
        delivery: To whom contributions go, and under which consent.
    """

    def __init__(
        self,
        *,
        site: SiteId,
        plan: Plan,
        cases: SiteCases,
        folder: Path,
        policy: SitePolicy,
        audit: AuditSink,
        resampling_key: Digest,
        observer: Observer,
        network: PlanNetwork,
        delivery: Delivery = IN_PROCESS,
    ) -> None:
        self._site = site
        self._plan = plan
        self._cases = cases
        self._folder = folder
        self._device = network.device
        self._observer = observer
        self._resampling_key = resampling_key
        self._releaser = Releaser(
            site=site, plan=plan.digest, policy=policy, audit=audit, delivery=delivery
        )
        # Two counts, of all cases and of the labelled ones, tell how many subjects have no label.
        self._pretraining = _unless_few(cases.train, cases.unlabelled, floor=policy.floor)
        self._pretraining_validation = _unless_few(
            cases.validation, cases.unlabelled_validation, floor=policy.floor
        )
        self._network, self._net = network, network.net
        self._initial_local = network.initial_local
        self._sources: dict[int, PatchSource] = {}
        self._pretext_sources: dict[int, UnlabelledSource] = {}

    def handle(self, request: Request) -> Contribution:
        """Answer one request; an error becomes a refusal that carries its code alone."""
        try:
            require_in_plan(request, plan=self._plan)
            return self._answer(request)
        except FedvolError as error:
            return refuse(self._releaser, request, error, observer=self._observer)

    def predictor(self, *, mirror: bool) -> Predictor:
        """The site's network as it stands, as a predictor."""
        return single(
            self._net, window=inference_window(self._plan, device=self._device, mirror=mirror)
        )

    def released_predictor(
        self, release: State, *, run: RunId, stage: int, best_round: int
    ) -> Predictor:
        """A finished run's release over this site's own local tensors, as a predictor."""
        self._load_over_local(release, run=run, stage=stage, up_to=best_round)
        return self.predictor(mirror=True)

    def _answer(self, request: Request) -> Contribution:
        match request.action:
            case Action.HEALTH:
                return self._releaser.health(request, self._health(), behind=self._cases.subjects)
            case Action.FINGERPRINT:
                raise ReleaseRefusedError(
                    f"site {self._site}",
                    "a fingerprint was asked for, and the run has its plan already",
                    "Ask for fingerprints before the run is proposed.",
                )
            case Action.PRETRAIN:
                return self._pretrain(request)
            case Action.FINETUNE:
                return self._train(request)
            case Action.PERSONALISE:
                return self._personalise(request)
            case Action.VALIDATE:
                return self._evaluate(request, self._cases.validation, test=False)
            case Action.TEST:
                return self._evaluate(request, self._cases.test, test=True)
            case Action.NORMS:
                return self._norms(request)

    def _health(self) -> HealthReport:
        description = NetworkDescription(
            tensors=describe(self._net), initial_digest=self._plan.network.initial_digest
        )
        return HealthReport(
            software=fedvol.__version__,
            architecture=description.architecture,
            training_cases=len(self._cases.train),
            pretraining_cases=self._num_pretraining(),
            validation_cases=len(self._cases.validation),
            test_cases=len(self._cases.test),
            skipped=dict(self._cases.skipped),
        )

    def _num_pretraining(self) -> int:
        """Cases to pretrain on; 0 where nothing is pretrained, or they are too few for the task."""
        stage, count = self._plan.study.pretrain, len(self._pretraining)
        if stage is None or (stage.task.needs_pairs and count == 1):
            return 0
        return count

    def _pretrain(self, request: Request) -> Contribution:
        stage = self._plan.study.stages[request.stage]
        if not isinstance(stage, Pretrain):
            raise self._not_this_stage(request, "pretrains nothing")
        cases = self._pretraining
        self._releaser.require_cohort(len({case.subject for case in cases}))
        if request.stage not in self._pretext_sources:
            self._pretext_sources[request.stage] = pretext_source(
                self._plan, request.stage, cases, site=self._site, device=self._device
            )
        exchange = self._exchange(request.stage)
        work = SiteWork(
            net=self._network.of(stage),
            plan=self._plan,
            exchange=exchange,
            num_cases=len(cases),
            objective=build_pretext(stage.task),
            batches=self._pretext_sources[request.stage],
            state=self._state(request.run, request.stage),
            device=self._device,
            on_step=self._on_step(request),
        )
        update = train_round(request, work=work, initial=self._initial_local[request.stage])
        return self._releaser.update(request, update, exchange=exchange)

    def _train(self, request: Request) -> Contribution:
        if not isinstance(self._plan.study.stages[request.stage], Finetune):
            raise self._not_this_stage(request, "trains no model of the study's task")
        self._require_cases()
        exchange = self._exchange(request.stage)
        state = self._state(request.run, request.stage)
        if state.has_released_norms:
            # Whoever asked for them every few rounds would see them change as they are trained.
            raise ReleaseRefusedError(
                f"site {self._site}",
                "its norm layers have left, so the stage has ended here",
                "Begin a new run.",
            )
        update = train_round(
            request, work=self._work(request), initial=self._initial_local[request.stage]
        )
        return self._releaser.update(request, update, exchange=exchange)

    def _personalise(self, request: Request) -> Contribution:
        stage = self._personal_stage(request.stage)
        if stage is None:
            raise self._not_this_stage(request, "trains no personal models")
        self._require_cases()
        report = personalise_round(
            request, work=self._work(request), stage=stage, start=self._personal_start(request)
        )
        return self._releaser.report(request, report)

    def _work(self, request: Request) -> SiteWork[Batch]:
        study = self._plan.study
        stage = study.stages[request.stage]
        is_finetune = isinstance(stage, Finetune)
        return SiteWork(
            net=self._net,
            plan=self._plan,
            exchange=self._exchange(request.stage),
            num_cases=len(self._cases.train),
            objective=build_objective(study.task, num_classes=num_classes(study.data)),
            batches=self._batches(request.stage),
            only=learning_tensors(stage, self._net, round_index=request.round)
            if is_finetune
            else None,
            moments_since=moments_since(stage, round_index=request.round) if is_finetune else 1,
            state=self._state(request.run, request.stage),
            device=self._device,
            on_step=self._on_step(request),
        )

    def _require_cases(self) -> None:
        if not self._cases.train:
            raise NoLabelsError(
                f"site {self._site}", "no labelled training case", "The site sits this stage out."
            )
        self._releaser.require_cohort(self._cases.subjects.training)

    def _on_step(self, request: Request) -> OnStep:
        def on_step(step: int, steps: int, loss: float) -> None:
            self._observer.event(
                "site.training",
                site=self._site,
                run=request.run,
                stage=request.stage,
                round=request.round,
                step=step,
                steps=steps,
                loss=loss,
            )

        return on_step

    def _batches(self, stage: int) -> PatchSource:
        """The stage's batches; kept between rounds, because it holds decoded volumes."""
        if stage not in self._sources:
            self._sources[stage] = PatchSource(
                [case.stored for case in self._cases.train],
                patches=self._plan.study.patches,
                augmentation=self._plan.study.augmentation,
                num_classes=num_classes(self._plan.study.data),
                plan=self._plan.digest,
                scope=(self._site, "patches", stage),
                device=self._device,
            )
        return self._sources[stage]

    def _evaluate(
        self, request: Request, cases: tuple[SiteCase, ...], *, test: bool
    ) -> Contribution:
        stage = self._plan.study.stages[request.stage]
        if isinstance(stage, Pretrain):
            return self._score(request, stage)
        is_personal = isinstance(stage, Personalise)
        self._load_over_local(
            self._personal_start(request) if is_personal else request.state,
            run=request.run,
            stage=request.stage,
            up_to=request.round,
        )
        evaluation = self._plan.study.evaluation
        deadline_s = time.monotonic() + request.limit_s
        judged = judge(
            self.predictor(mirror=test or evaluation.validation_mirror),
            cases,
            site=self._site,
            plan=self._plan,
            metrics=evaluation.metrics if test else selection_metrics(evaluation),
            replicates=evaluation.bootstrap_replicates if test else 0,
            resampling_key=self._resampling_key,
            rows=rows_path(self._folder, request.run, stage=request.stage) if test else None,
            on_case=lambda done, total: self._observer.event(
                "site.evaluating", site=self._site, done=done, total=total
            ),
            should_stop=lambda: time.monotonic() > deadline_s,
        )
        return self._releaser.evaluation(request, judged.sums, judged.report, behind=judged.behind)

    def _score(self, request: Request, stage: Pretrain) -> Contribution:
        if request.action is not Action.VALIDATE:
            raise self._not_this_stage(request, "has no model that is tested")
        self._load_over_local(
            request.state, run=request.run, stage=request.stage, up_to=request.round
        )
        deadline_s = time.monotonic() + request.limit_s
        judged = judge_pretext(
            self._network.of(stage),
            self._pretraining_validation,
            partners=(*self._pretraining_validation, *self._pretraining),
            site=self._site,
            plan=self._plan,
            stage=stage,
            resampling_key=self._resampling_key,
            device=self._device,
            on_case=lambda done, total: self._observer.event(
                "site.evaluating", site=self._site, done=done, total=total
            ),
            should_stop=lambda: time.monotonic() > deadline_s,
        )
        return self._releaser.evaluation(request, judged.sums, judged.report, behind=judged.behind)

    def _norms(self, request: Request) -> Contribution:
        if self._personal_stage(request.stage) is not None:
            raise ReleaseRefusedError(
                f"site {self._site}",
                "a personal model never leaves its site",
                "Bring the server to the site's fedvol version.",
            )
        exchange = self._exchange(request.stage)
        state = self._state(request.run, request.stage)
        if not state.release_norms(round=request.round):
            raise ReleaseRefusedError(
                f"site {self._site}",
                "norm layers leave for one round, and left for another",
                "Ask for the round that is released.",
            )
        self._releaser.require_cohort(self._cases.subjects.training)
        local = state.local_tensors(up_to=request.round, exchange=exchange)
        return self._releaser.norms(request, local, exchange=exchange)

    def _load_over_local(self, state: State, *, run: RunId, stage: int, up_to: int) -> None:
        settings = self._plan.study.stages[stage]
        net = self._network.of(settings)
        place(net, training=settings.training, device=self._device)
        load_global(
            net,
            state,
            exchange=self._exchange(stage),
            state=self._state(run, stage),
            initial=self._initial_local.get(stage, {}),
            up_to=up_to,
        )

    def _state(self, run: RunId, stage: int) -> LocalState:
        return LocalState(self._folder / "state", run=run, stage=stage, plan=self._plan.digest)

    def _exchange(self, stage: int) -> Exchange:
        return plan_exchange(self._plan, stage)

    def _personal_stage(self, stage: int) -> Personalise | None:
        found = self._plan.study.stages[stage]
        return found if isinstance(found, Personalise) else None

    def _personal_start(self, request: Request) -> State:
        before = request.stage - 1
        require_planned(request, exchange=self._exchange(request.stage))
        return personal_start(
            request, finetune=self._exchange(before), state=self._state(request.run, before)
        )

    def _not_this_stage(self, request: Request, what: str) -> ReleaseRefusedError:
        return ReleaseRefusedError(
            f"site {self._site}",
            f"stage {request.stage} of the plan {what}",
            "Bring the server to the site's fedvol version.",
        )


def _unless_few(
    labelled: tuple[SiteCase, ...], unlabelled: tuple[SiteCase, ...], *, floor: int
) -> tuple[SiteCase, ...]:
    """All cases, but for unlabelled ones of so few subjects that counts would tell of them."""
    few = is_small(len({case.subject for case in unlabelled}), floor=floor)
    return labelled if few else (*labelled, *unlabelled)
