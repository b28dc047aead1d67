"""Finetuning that starts from pretrained weights: which ones, and what learns in a round."""

from torch import nn

from fedvol.config.strategy import Finetune
from fedvol.errors import PlanMismatchError
from fedvol.federation import Exchange, Request
from fedvol.models.state import parts_of
from fedvol.plan import Plan, TensorKind, state_digest
from fedvol.types import State

_BEGINNING = frozenset({TensorKind.STEM, TensorKind.ENCODER})


def require_start(request: Request, *, plan: Plan, exchange: Exchange, kept: State) -> None:
    """Refuse to begin with other weights than the plan's, where they are those of a file.

    What never travels is left out of no digest: the site's own stands in for it.

    Args:
        request: A round of finetuning; in a later one nobody knows what the weights should be.
        plan: The plan that the site agreed to.
        exchange: What travels.
        kept: What of the network never does, as it begins.

    Raises:
        PlanMismatchError: They are others.
    """
    if plan.start is None or request.round > 1:
        return
    sent = {spec.name: request.state[spec.name] for spec in exchange.shared}
    if state_digest({**kept, **sent}) != plan.network.initial_digest:
        raise PlanMismatchError(
            f"site {request.site}, stage {request.stage}, round 1",
            "the weights that were sent to begin with are not the plan's, which are made of the "
            f"pretrained file {plan.start.digest[:12]}",
            "Ask the operator which file the run began with; propose a run of that file.",
        )


def learning_tensors(stage: Finetune, net: nn.Module, *, round_index: int) -> frozenset[str] | None:
    """Tensors that learn in a round; None: all of them.

    The heads alone, in the first rounds or in all if the study says so; with a frozen encoder all
    but what lies in stem and encoder, norm layers included.

    Args:
        stage: The finetune stage.
        net: Its network.
        round_index: The round, from 1.
    """
    start = stage.start
    if start is None:
        return None
    parts = parts_of(net)
    if round_index <= start.heads_first_rounds or start.frozen == "all_but_heads":
        return frozenset(name for name, part in parts.items() if part is TensorKind.HEAD)
    if start.frozen == "encoder":
        return frozenset(name for name, part in parts.items() if part not in _BEGINNING)
    return None


def moments_since(stage: Finetune, *, round_index: int) -> int:
    """First round whose moments are of the tensors that learn in a round.

    Args:
        stage: The finetune stage.
        round_index: The round, from 1.
    """
    heads_first = stage.start.heads_first_rounds if stage.start is not None else 0
    return heads_first + 1 if round_index > heads_first else 1
