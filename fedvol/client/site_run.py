"""`SiteRun`: what a site has in one run, whichever stage it is asked about."""

from dataclasses import dataclass
from pathlib import Path

from fedvol.client.cases import SiteCases
from fedvol.client.local_state import LocalState
from fedvol.client.local_training import OnStep, load_global
from fedvol.client.plan_network import PlanNetwork
from fedvol.errors import ReleaseRefusedError
from fedvol.federation import Exchange, Request, plan_exchange
from fedvol.plan import Plan
from fedvol.privacy import Releaser
from fedvol.telemetry import Observer
from fedvol.training import place
from fedvol.types import Digest, RunId, SiteId, State


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRun:
    """One site's side of one run.

    Attributes:
        site: Which site it is.
        plan: The plan it agreed to.
        cases: The site's usable cases.
        folder: The site's own folder; local state, checkpoints and rows stay in it.
        network: The plan's network, on its device.
        releaser: The one way out.
        resampling_key: Seed of bootstrap resamples.
        observer: Hears of progress, at the site.
    """

    site: SiteId
    plan: Plan
    cases: SiteCases
    folder: Path
    network: PlanNetwork
    releaser: Releaser
    resampling_key: Digest
    observer: Observer

    def exchange(self, stage: int) -> Exchange:
        """What of a stage's tensors travels."""
        return plan_exchange(self.plan, stage)

    def state(self, run: RunId, stage: int) -> LocalState:
        """The site's files of a stage."""
        return LocalState(self.folder / "state", run=run, stage=stage, plan=self.plan.digest)

    def load_over_local(self, state: State, *, run: RunId, stage: int, up_to: int) -> None:
        """Load a state, over the site's own tensors of rounds up to one, into a network."""
        settings = self.plan.study.stages[stage]
        net = self.network.of(settings)
        place(net, training=settings.training, device=self.network.device)
        load_global(
            net,
            state,
            exchange=self.exchange(stage),
            state=self.state(run, stage),
            initial=self.network.initial_local.get(stage, {}),
            up_to=up_to,
        )

    def on_step(self, request: Request) -> OnStep:
        """Tells of the steps of a round, at the site."""

        def on_step(step: int, steps: int, loss: float) -> None:
            self.observer.event(
                "site.training",
                site=self.site,
                run=request.run,
                stage=request.stage,
                round=request.round,
                step=step,
                steps=steps,
                loss=loss,
            )

        return on_step

    def on_case(self, done: int, total: int) -> None:
        """Tells of the cases judged, at the site."""
        self.observer.event("site.evaluating", site=self.site, done=done, total=total)

    def not_this_stage(self, request: Request, what: str) -> ReleaseRefusedError:
        """The refusal of what a stage of the plan does not do."""
        return ReleaseRefusedError(
            f"site {self.site}",
            f"stage {request.stage} of the plan {what}",
            "Bring the server to the site's fedvol version.",
        )
