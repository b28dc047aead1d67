"""What learns in a round of finetuning that started from pretrained weights."""

from torch import nn

from fedvol.config.strategy import Finetune
from fedvol.models.state import parts_of
from fedvol.plan import TensorKind

_BEGINNING = frozenset({TensorKind.STEM, TensorKind.ENCODER})


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
