"""A site does what is in the plan it agreed to: no other stage, and no round more."""

from fedvol.errors import ReleaseRefusedError
from fedvol.federation import TRAINING, Request
from fedvol.plan import Plan


def require_in_plan(request: Request, *, plan: Plan) -> None:
    """Refuse a request for what the plan does not hold.

    A round may be asked for again: the server plays an abandoned round once more.

    Raises:
        PlanMismatchError: It is for another plan.
        ReleaseRefusedError: The plan has no such stage, or the stage no such round.
    """
    where = f"site {request.site}"
    plan.require_same(request.plan, where=where)
    if not 0 <= request.stage < len(plan.study.stages):
        raise ReleaseRefusedError(
            where,
            f"the plan has no stage {request.stage}",
            "Bring the server to the site's fedvol version.",
        )
    first = 1 if request.action in TRAINING else 0  # before the first round models may be judged
    last = plan.study.stages[request.stage].rounds
    if not first <= request.round <= last:
        raise ReleaseRefusedError(
            where,
            f"{request.action.value} is asked for round {request.round}, and stage "
            f"{request.stage} of the plan has rounds 1 to {last}",
            "Ask the operator why more is asked for than was agreed to.",
        )
