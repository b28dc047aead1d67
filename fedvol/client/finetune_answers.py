"""What a site answers in a finetune stage: updates, and once its norm layers."""

from fedvol.client.labelled_work import LabelledWork
from fedvol.client.local_training import require_planned, train_round
from fedvol.client.site_run import SiteRun
from fedvol.client.starting import require_start
from fedvol.config.strategy import Finetune, Personalise
from fedvol.errors import ReleaseRefusedError
from fedvol.federation import Request
from fedvol.privacy import Contribution


class FinetuneAnswers:
    """Trains the study's network, and gives the norm layers kept at the site for the release.

    Args:
        run: The site's side of the run.
        work: What it trains with.
    """

    def __init__(self, run: SiteRun, *, work: LabelledWork) -> None:
        self._run = run
        self._work = work

    def train(self, request: Request) -> Contribution:
        """One round of training.

        Raises:
            ReleaseRefusedError: The stage trains no shared model, its norm layers have left, or
                the update may not leave.
            PlanMismatchError: The request brings other tensors than the plan names, or begins with
                other weights than those of the plan's file.
            NoLabelsError: The site has no labelled training case.
            CohortTooSmallError: There are fewer subjects than the site's floor.
            TimeLimitError: The request's limit passed before the last step.
            TrainingDivergedError: The loss became NaN or infinite.
        """
        run = self._run
        if not isinstance(run.plan.study.stages[request.stage], Finetune):
            raise run.not_this_stage(request, "trains no model of the study's task")
        self._work.require_cases()
        if run.state(request.run, request.stage).has_released_norms:
            # Whoever asked for them every few rounds would see them change as they are trained.
            raise ReleaseRefusedError(
                f"site {run.site}",
                "its norm layers have left, so the stage has ended here",
                "Begin a new run.",
            )
        work = self._work.of(request)
        require_planned(request, exchange=work.exchange)
        kept = run.network.initial_kept
        require_start(request, plan=run.plan, exchange=work.exchange, kept=kept)
        update = train_round(request, work=work, initial=run.network.initial_local[request.stage])
        return run.releaser.update(request, update, exchange=work.exchange)

    def norms(self, request: Request) -> Contribution:
        """The norm layers that the site kept, of one round.

        Raises:
            ReleaseRefusedError: They are a personal model's, or left for another round already.
            CohortTooSmallError: There are fewer subjects than the site's floor.
        """
        run = self._run
        if isinstance(run.plan.study.stages[request.stage], Personalise):
            raise ReleaseRefusedError(
                f"site {run.site}",
                "a personal model never leaves its site",
                "Bring the server to the site's fedvol version.",
            )
        exchange = run.exchange(request.stage)
        state = run.state(request.run, request.stage)
        if not state.release_norms(round=request.round):
            raise ReleaseRefusedError(
                f"site {run.site}",
                "norm layers leave for one round, and left for another",
                "Ask for the round that is released.",
            )
        run.releaser.require_cohort(run.cases.subjects.training)
        local = state.local_tensors(up_to=request.round, exchange=exchange)
        return run.releaser.norms(request, local, exchange=exchange)
