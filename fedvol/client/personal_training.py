"""One round of training a site's own model; only how it went is told."""

from fedvol.client.local_state import LocalState
from fedvol.client.local_training import SiteWork, keep, load_global, report_of, take_steps
from fedvol.config.strategy import Ditto, Personalise
from fedvol.data.batch import Batch
from fedvol.errors import PlanMismatchError
from fedvol.federation import Exchange, Request, RoundArguments, TrainReport
from fedvol.models import load_arrays
from fedvol.training import Pull, only_trained
from fedvol.types import State


def personalise_round(
    request: Request, *, work: SiteWork[Batch], stage: Personalise, start: State
) -> TrainReport:
    """Train a site's own model for one round, from where its last round left it.

    Args:
        request: The round.
        work: What the site trains with; its exchange's `local` tensors are trained and kept.
        stage: The stage of the plan.
        start: The released state as this site uses it; first weights, and Ditto's anchor.

    Raises:
        TimeLimitError: The request's limit passed before the last step.
        TrainingDivergedError: The loss became NaN or infinite.
    """
    net, exchange = work.net, work.exchange
    load_arrays(net, start)
    strength = stage.method.pull if isinstance(stage.method, Ditto) else 0.0
    pull = Pull(strength=strength, net=net) if strength else None
    up_to = request.round - 1
    load_global(net, start, exchange=exchange, state=work.state, initial={}, up_to=up_to)
    with only_trained(net, {spec.name for spec in exchange.local}):
        result = take_steps(request, work=work, correction=pull)
    keep(request, work=work, result=result)
    return report_of(result, num_cases=work.num_cases)


def personal_start(request: Request, *, finetune: Exchange, state: LocalState) -> State:
    """The release as a site uses it: over the tensors that it kept when it was made.

    Args:
        request: Brings the release, and the round it comes from.
        finetune: The exchange of the stage that made it.
        state: The site's files of that stage.

    Raises:
        PlanMismatchError: The request does not name the round.
    """
    start_round = RoundArguments.of(request).start_round
    if start_round is None:
        raise PlanMismatchError(
            f"site {request.site}, round {request.round}",
            "the request does not say which round was released",
            "Bring server and site to one fedvol version.",
        )
    own = state.local_tensors(up_to=start_round, exchange=finetune)
    return {**request.state, **(own or {})}
