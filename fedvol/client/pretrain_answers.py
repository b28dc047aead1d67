"""What a site answers in a pretrain stage: updates, and what a model is worth there."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from fedvol.client.local_training import SiteWork, train_round
from fedvol.client.pretext_judging import judge_pretext, picture_case
from fedvol.client.pretraining import fitting, pretext_source, trainable
from fedvol.client.probing import probe
from fedvol.client.site_run import SiteRun
from fedvol.config.strategy import Pretrain
from fedvol.data.unlabelled import UnlabelledSource
from fedvol.errors import NoCasesError, TimeLimitError, TrainingDivergedError
from fedvol.federation import Action, Request
from fedvol.privacy import Contribution
from fedvol.privacy.floors import is_small
from fedvol.ssl import PretextPicture, build_pretext, pretext_patch
from fedvol.types import CaseId
from fedvol.validation import CaseMetrics

_PROBED_BY: Final = 0.9
"""Share of the time to evaluate after which a probe is left, so that the other figures get away."""


class PretrainAnswers:
    """Pretrains and judges on a site's cases, labelled or not.

    Cases that the task cannot use are told of once, at the site.

    Args:
        run: The site's side of the run.
        floor: Cases of fewer subjects are not told of, unlabelled ones of fewer left aside.
    """

    def __init__(self, run: SiteRun, *, floor: int) -> None:
        self._run, self._floor = run, floor
        cases, study = run.cases, run.plan.study
        self._cases = replace(
            cases,
            train=fitting(cases.train, study),
            validation=fitting(cases.validation, study),
            unlabelled=fitting(cases.unlabelled, study),
            unlabelled_validation=fitting(cases.unlabelled_validation, study),
        ).without_few_unlabelled(floor=floor)
        self._num_too_small = len(cases.pretrain) - len(fitting(cases.pretrain, study))
        if self._num_too_small:
            run.observer.event(
                "site.too_small",
                site=run.site,
                cases=self._num_too_small,
                total=len(cases.pretrain),
                **self._asked(),
            )
        if self._has_no_pair:
            run.observer.event("site.no_pair", site=run.site, task=self._asked()["task"])
        self._sources: dict[int, UnlabelledSource] = {}

    @property
    def _has_no_pair(self) -> bool:
        """Whether there is a case, and the task blends two."""
        stage = self._run.plan.study.pretrain
        return stage is not None and stage.task.needs_pairs and len(self._cases.pretrain) == 1

    @property
    def num_cases(self) -> int:
        """Cases to pretrain on; 0 where nothing is, or they are too few for task or floors."""
        if is_small(self.num_subjects, floor=self._floor):
            return 0
        return len(trainable(self._cases.pretrain, self._run.plan.study))

    @property
    def num_subjects(self) -> int:
        """Subjects behind the cases to pretrain on; they stay at the site."""
        return self._cases.subjects.pretraining

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
        if self._num_too_small and self._num_too_small == len(run.cases.pretrain):
            asked = self._asked()
            raise NoCasesError(
                f"site {run.site}",
                f"every case is smaller than the patch of {asked['patch']} voxels, and "
                f"{asked['task']} takes no padding",
                "Sit the pretraining out, or propose a smaller patch or another pretext task.",
            )
        if self._has_no_pair:
            raise NoCasesError(
                f"site {run.site}",
                f"there is a single case, and {self._asked()['task']} blends two",
                "Sit the pretraining out, add cases, or propose another pretext task.",
            )
        cases = self._cases.pretrain
        run.releaser.require_cohort(self._cases.subjects.pretraining)
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
        """The losses of a state on the validation cases, the variance of its features, its probe.

        Raises:
            ReleaseRefusedError: A test is asked for.
            TimeLimitError: The request's limit passed before the last case.
        """
        run, is_probed = self._run, stage.is_probed(request.round)
        if request.action is not Action.VALIDATE:
            raise run.not_this_stage(request, "has no model that is tested")
        run.load_over_local(
            request.state, run=request.run, stage=request.stage, up_to=request.round
        )
        began_s = time.monotonic()

        def should_stop(share: float = 1.0) -> bool:
            return time.monotonic() > began_s + share * request.limit_s

        judged = judge_pretext(
            run.network.of(stage),
            self._cases.pretrain_validation,
            partners=(*self._cases.pretrain_validation, *self._cases.pretrain),
            site=run.site,
            plan=run.plan,
            probe=partial(self._probe, request, stage, partial(should_stop, _PROBED_BY))
            if is_probed
            else None,
            resampling_key=run.resampling_key,
            device=run.network.device,
            on_case=run.on_case,
            should_stop=should_stop,
        )
        return run.releaser.evaluation(request, judged.sums, judged.report, behind=judged.behind)

    def _probe(
        self, request: Request, stage: Pretrain, should_stop: Callable[[], bool]
    ) -> dict[CaseId, CaseMetrics]:
        """Dice of new heads; none where labels are too few to train on, or absent to judge by.

        A probe that fails is told here and spoils no other figure: no round is chosen by it.
        """
        run, cases = self._run, self._cases
        is_few = is_small(cases.subjects.training, floor=self._floor)
        if is_few or not cases.train or not cases.validation:
            return {}
        try:
            return probe(
                run.network.of(stage),
                train_on=cases.train,
                judge_on=cases.validation,
                site=run.site,
                plan=run.plan,
                stage=request.stage,
                device=run.network.device,
                should_stop=should_stop,
            )
        except (TimeLimitError, TrainingDivergedError) as error:
            run.observer.event(
                "site.probe_left", site=run.site, round=request.round, code=error.code,
                title=error.title,
            )  # fmt: skip
            return {}

    def picture(self, stage: Pretrain) -> tuple[CaseId, PretextPicture] | None:
        """What the network as it stands makes of the first validation case; it stays at the site.

        None where there is no such case, or the task has nothing to see.
        """
        run, cases = self._run, self._cases.pretrain_validation
        if not cases:
            return None
        first = min(cases, key=lambda case: case.stored.case)
        picture = picture_case(
            run.network.of(stage),
            first,
            partners=(*cases, *self._cases.pretrain),
            study=run.plan.study,
            stage=stage,
            device=run.network.device,
        )
        return None if picture is None else (first.stored.case, picture)

    def _asked(self) -> dict[str, str]:
        """The task, and the voxels of its patch."""
        study, stage = self._run.plan.study, self._run.plan.study.pretrain
        assert stage is not None
        return {
            "task": stage.task.kind,
            "patch": "x".join(map(str, pretext_patch(study, stage))),
        }
