"""What a site answers when models of the study's task are judged: sums over its cases."""

import time

from fedvol.client.cases import SiteCase
from fedvol.client.judging import inference_window, judge, rows_path
from fedvol.client.personal_answers import PersonalAnswers
from fedvol.client.site_run import SiteRun
from fedvol.config.strategy import Personalise
from fedvol.federation import Action, Request
from fedvol.plan import selection_metrics
from fedvol.privacy import Contribution
from fedvol.validation import Predictor, single


class JudgingAnswers:
    """Judges a state on the labelled cases of one split.

    Args:
        run: The site's side of the run.
        personal: Knows what a personal model is made of.
    """

    def __init__(self, run: SiteRun, *, personal: PersonalAnswers) -> None:
        self._run = run
        self._personal = personal

    def judge(self, request: Request, cases: tuple[SiteCase, ...]) -> Contribution:
        """What a state is worth on cases.

        Args:
            request: Brings the state; a test also resamples, and keeps a row of each case.
            cases: The cases of its split.

        Raises:
            TimeLimitError: The request's limit passed before the last case.
        """
        run, is_test = self._run, request.action is Action.TEST
        is_personal = isinstance(run.plan.study.stages[request.stage], Personalise)
        run.load_over_local(
            self._personal.start(request) if is_personal else request.state,
            run=request.run,
            stage=request.stage,
            up_to=request.round,
        )
        evaluation = run.plan.study.evaluation
        deadline_s = time.monotonic() + request.limit_s
        judged = judge(
            self.predictor(mirror=is_test or evaluation.validation_mirror),
            cases,
            site=run.site,
            plan=run.plan,
            metrics=evaluation.metrics if is_test else selection_metrics(evaluation),
            replicates=evaluation.bootstrap_replicates if is_test else 0,
            resampling_key=run.resampling_key,
            rows=rows_path(run.folder, request.run, stage=request.stage) if is_test else None,
            on_case=run.on_case,
            should_stop=lambda: time.monotonic() > deadline_s,
        )
        return run.releaser.evaluation(request, judged.sums, judged.report, behind=judged.behind)

    def predictor(self, *, mirror: bool) -> Predictor:
        """The site's network as it stands, as a predictor."""
        network = self._run.network
        return single(
            network.net,
            window=inference_window(self._run.plan, device=network.device, mirror=mirror),
        )
