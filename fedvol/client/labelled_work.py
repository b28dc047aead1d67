"""`LabelledWork`: what a site trains the study's network with, on its labelled cases."""

from fedvol.client.local_training import SiteWork
from fedvol.client.site_run import SiteRun
from fedvol.client.starting import learning_tensors, moments_since
from fedvol.config.strategy import Finetune
from fedvol.data.batch import Batch
from fedvol.data.sampling import PatchSource
from fedvol.errors import NoLabelsError
from fedvol.federation import Request
from fedvol.plan import num_classes
from fedvol.tasks import build_objective


class LabelledWork:
    """A site's work of finetuning and personal training.

    Args:
        run: The site's side of the run.
    """

    def __init__(self, run: SiteRun) -> None:
        self._run = run
        self._sources: dict[int, PatchSource] = {}

    def require_cases(self) -> None:
        """Refuse a stage for which the site has no labelled case, or too few.

        Raises:
            NoLabelsError: There is none; the site sits the stage out.
            CohortTooSmallError: There are fewer subjects than the site's floor.
        """
        run = self._run
        if not run.cases.train:
            raise NoLabelsError(
                f"site {run.site}", "no labelled training case", "The site sits this stage out."
            )
        run.releaser.require_cohort(run.cases.subjects.training)

    def of(self, request: Request) -> SiteWork[Batch]:
        """What the site trains with in a round."""
        run = self._run
        study = run.plan.study
        stage = study.stages[request.stage]
        is_finetune = isinstance(stage, Finetune)
        net = run.network.net
        return SiteWork(
            net=net,
            plan=run.plan,
            exchange=run.exchange(request.stage),
            num_cases=len(run.cases.train),
            objective=build_objective(study.task, num_classes=num_classes(study.data)),
            batches=self._batches(request.stage),
            only=learning_tensors(stage, net, round_index=request.round) if is_finetune else None,
            moments_since=moments_since(stage, round_index=request.round) if is_finetune else 1,
            state=run.state(request.run, request.stage),
            device=run.network.device,
            on_step=run.on_step(request),
        )

    def _batches(self, stage: int) -> PatchSource:
        """The stage's batches; kept between rounds, because it holds decoded volumes."""
        if stage not in self._sources:
            run = self._run
            study = run.plan.study
            self._sources[stage] = PatchSource(
                [case.stored for case in run.cases.train],
                patches=study.patches,
                augmentation=study.augmentation,
                num_classes=num_classes(study.data),
                plan=run.plan.digest,
                scope=(run.site, "patches", stage),
                device=run.network.device,
            )
        return self._sources[stage]
