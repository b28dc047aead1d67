"""What a site answers in a stage of personal models: how training went, and nothing of them."""

from fedvol.client.labelled_work import LabelledWork
from fedvol.client.local_training import require_planned
from fedvol.client.personal_training import personal_start, personalise_round
from fedvol.client.site_run import SiteRun
from fedvol.config.strategy import Personalise
from fedvol.federation import Request
from fedvol.privacy import Contribution
from fedvol.types import State


class PersonalAnswers:
    """Trains the site's own model.

    Args:
        run: The site's side of the run.
        work: What it trains with.
    """

    def __init__(self, run: SiteRun, *, work: LabelledWork) -> None:
        self._run = run
        self._work = work

    def personalise(self, request: Request) -> Contribution:
        """One round of training.

        Raises:
            ReleaseRefusedError: The stage trains no personal models.
            NoLabelsError: The site has no labelled training case.
            CohortTooSmallError: There are fewer subjects than the site's floor.
            TimeLimitError: The request's limit passed before the last step.
            TrainingDivergedError: The loss became NaN or infinite.
        """
        run = self._run
        stage = run.plan.study.stages[request.stage]
        if not isinstance(stage, Personalise):
            raise run.not_this_stage(request, "trains no personal models")
        self._work.require_cases()
        work = self._work.of(request)
        report = personalise_round(request, work=work, stage=stage, start=self.start(request))
        return run.releaser.report(request, report)

    def start(self, request: Request) -> State:
        """The release that a request brings, as this site uses it."""
        run, before = self._run, request.stage - 1
        require_planned(request, exchange=run.exchange(request.stage))
        return personal_start(
            request, finetune=run.exchange(before), state=run.state(request.run, before)
        )
