"""`SiteAgent`: answers the server's questions with this site's cases, policy and audit log."""

from dataclasses import replace
from pathlib import Path

import fedvol
from fedvol.audit import AuditSink
from fedvol.client.cases import SiteCase, SiteCases
from fedvol.client.finetune_answers import FinetuneAnswers
from fedvol.client.judging_answers import JudgingAnswers
from fedvol.client.labelled_work import LabelledWork
from fedvol.client.personal_answers import PersonalAnswers
from fedvol.client.plan_network import PlanNetwork
from fedvol.client.planned import require_in_plan
from fedvol.client.pretrain_answers import PretrainAnswers
from fedvol.client.refusing import refuse
from fedvol.client.site_run import SiteRun
from fedvol.config import SitePolicy
from fedvol.config.strategy import Pretrain
from fedvol.errors import FedvolError, ReleaseRefusedError
from fedvol.federation import Action, HealthReport, Request
from fedvol.models import describe
from fedvol.plan import NetworkDescription, Plan
from fedvol.privacy import IN_PROCESS, Contribution, Delivery, Releaser
from fedvol.ssl import PretextPicture
from fedvol.telemetry import Observer
from fedvol.types import CaseId, Digest, RunId, SiteId, State
from fedvol.validation import Predictor


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
        self.network = network
        """The plan's network; whatever was asked last is loaded."""
        self._run = SiteRun(
            site=site,
            plan=plan,
            cases=cases.without_few_unlabelled(floor=policy.floor),
            folder=folder,
            network=network,
            releaser=Releaser(
                site=site, plan=plan.digest, policy=policy, audit=audit, delivery=delivery
            ),
            resampling_key=resampling_key,
            observer=observer,
        )
        work = LabelledWork(self._run)
        self._pretrain = PretrainAnswers(self._run, floor=policy.floor)
        self._finetune = FinetuneAnswers(self._run, work=work)
        self._personal = PersonalAnswers(self._run, work=work)
        self._judging = JudgingAnswers(self._run, personal=self._personal)

    def handle(self, request: Request) -> Contribution:
        """Answer one request; an error becomes a refusal that carries its code alone."""
        run = self._run
        try:
            require_in_plan(request, plan=run.plan)
            return self._answer(request)
        except FedvolError as error:
            return refuse(run.releaser, request, error, observer=run.observer)

    def predictor(self, *, mirror: bool) -> Predictor:
        """The site's network as it stands, as a predictor."""
        return self._judging.predictor(mirror=mirror)

    def released_predictor(
        self, release: State, *, run: RunId, stage: int, best_round: int
    ) -> Predictor:
        """A finished run's release over this site's own local tensors, as a predictor."""
        self._run.load_over_local(release, run=run, stage=stage, up_to=best_round)
        return self.predictor(mirror=True)

    def pretext_picture(
        self, pretrained: State, *, run: RunId, stage: int, best_round: int
    ) -> tuple[CaseId, PretextPicture] | None:
        """What a pretrained network makes of a validation case, over the site's own local tensors.

        It is no answer to a server: whoever opened the agent sees it. None where there is nothing
        to see.
        """
        settings = self._run.plan.study.stages[stage]
        assert isinstance(settings, Pretrain)
        self._run.load_over_local(pretrained, run=run, stage=stage, up_to=best_round)
        return self._pretrain.picture(settings)

    def _answer(self, request: Request) -> Contribution:
        run = self._run
        match request.action:
            case Action.HEALTH:
                behind = replace(run.cases.subjects, pretraining=self._pretrain.num_subjects)
                return run.releaser.health(request, self._health(), behind=behind)
            case Action.FINGERPRINT:
                raise ReleaseRefusedError(
                    f"site {run.site}",
                    "a fingerprint was asked for, and the run has its plan already",
                    "Ask for fingerprints before the run is proposed.",
                )
            case Action.PRETRAIN:
                return self._pretrain.pretrain(request)
            case Action.FINETUNE:
                return self._finetune.train(request)
            case Action.PERSONALISE:
                return self._personal.personalise(request)
            case Action.VALIDATE:
                return self._judge(request, run.cases.validation)
            case Action.TEST:
                return self._judge(request, run.cases.test)
            case Action.NORMS:
                return self._finetune.norms(request)

    def _health(self) -> HealthReport:
        plan, cases = self._run.plan, self._run.cases
        description = NetworkDescription(
            tensors=describe(self.network.net), initial_digest=plan.network.initial_digest
        )
        return HealthReport(
            software=fedvol.__version__,
            architecture=description.architecture,
            training_cases=len(cases.train),
            pretraining_cases=self._pretrain.num_cases,
            validation_cases=len(cases.validation),
            test_cases=len(cases.test),
            skipped=dict(cases.skipped),
        )

    def _judge(self, request: Request, cases: tuple[SiteCase, ...]) -> Contribution:
        stage = self._run.plan.study.stages[request.stage]
        if isinstance(stage, Pretrain):
            return self._pretrain.judge(request, stage)
        return self._judging.judge(request, cases)
