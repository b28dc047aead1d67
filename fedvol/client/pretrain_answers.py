"""What a site answers in a pretrain stage: updates, and what a model is worth there."""

import time

from fedvol.client.local_training import SiteWork, train_round
from fedvol.client.pretext_judging import judge_pretext
from fedvol.client.pretraining import pretext_source
from fedvol.client.site_run import SiteRun
from fedvol.config.strategy import Pretrain
from fedvol.data.unlabelled import UnlabelledSource
from fedvol.federation import Action, Request
from fedvol.privacy import Contribution
from fedvol.ssl import build_pretext


class PretrainAnswers:
    """Pretrains and judges on a site's cases, labelled or not.

    Args:
        run: The site's side of the run.
    """

    def __init__(self, run: SiteRun) -> None:
        self._run = run
        self._sources: dict[int, UnlabelledSource] = {}

    @property
    def num_cases(self) -> int:
        """Cases to pretrain on; 0 where nothing is pretrained, or they are too few for the task."""
        stage, count = self._run.plan.study.pretrain, len(self._run.cases.pretrain)
        if stage is None or (stage.task.needs_pairs and count == 1):
            return 0
        return count

    def pretrain(self, request: Request) -> Contribution:
        """One round of pretraining.

        Raises:
            ReleaseRefusedError: The stage pretrains nothing, or the update may not leave.
            CohortTooSmallError: There are fewer subjects than the site's floor.
            NoCasesError: There are too few cases for the task.
            TimeLimitError: The request's limit passed before the last step.
            TrainingDivergedError: The loss became NaN or infinite.
        """
        run = self._run
        stage = run.plan.study.stages[request.stage]
        if not isinstance(stage, Pretrain):
            raise run.not_this_stage(request, "pretrains nothing")
        cases = run.cases.pretrain
        run.releaser.require_cohort(run.cases.subjects.pretraining)
        if request.stage not in self._sources:
            self._sources[request.stage] = pretext_source(
                run.plan, request.stage, cases, site=run.site, device=run.network.device
            )
        exchange = run.exchange(request.stage)
        work = SiteWork(
            net=run.network.of(stage),
            plan=run.plan,
            exchange=exchange,
            num_cases=len(cases),
            objective=build_pretext(stage.task),
            batches=self._sources[request.stage],
            state=run.state(request.run, request.stage),
            device=run.network.device,
            on_step=run.on_step(request),
        )
        update = train_round(request, work=work, initial=run.network.initial_local[request.stage])
        return run.releaser.update(request, update, exchange=exchange)

    def judge(self, request: Request, stage: Pretrain) -> Contribution:
        """The losses of a state on the validation cases, and the variance of its features.

        Raises:
            ReleaseRefusedError: A test is asked for.
            TimeLimitError: The request's limit passed before the last case.
        """
        run = self._run
        if request.action is not Action.VALIDATE:
            raise run.not_this_stage(request, "has no model that is tested")
        run.load_over_local(
            request.state, run=request.run, stage=request.stage, up_to=request.round
        )
        deadline_s = time.monotonic() + request.limit_s
        judged = judge_pretext(
            run.network.of(stage),
            run.cases.pretrain_validation,
            partners=(*run.cases.pretrain_validation, *run.cases.pretrain),
            site=run.site,
            plan=run.plan,
            stage=stage,
            resampling_key=run.resampling_key,
            device=run.network.device,
            on_case=run.on_case,
            should_stop=lambda: time.monotonic() > deadline_s,
        )
        return run.releaser.evaluation(request, judged.sums, judged.report, behind=judged.behind)
