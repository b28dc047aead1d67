"""What the keys of a stage must be to each other and to the network."""

from collections.abc import Iterator
from typing import assert_never

from fedvol.config.learning import Sgd, Training
from fedvol.config.monai_networks import BasicUNet, SwinUNETR
from fedvol.config.network import Network
from fedvol.config.open_study import OpenNetwork
from fedvol.config.pretext import MaskedTokens
from fedvol.config.strategy import (
    AdaptiveFedProx,
    Ditto,
    FedBN,
    FedProx,
    Finetune,
    Personalise,
    Pretrain,
    Scaffold,
    Stage,
)
from fedvol.errors import Problem

NOT_COMPILED = (BasicUNet, SwinUNETR)
"""Networks that `torch.compile` cannot take whole."""

_ORDERS = [
    [*before, "finetune", *after]
    for before in ([], ["pretrain"])
    for after in ([], ["personalise"])
]
_FIRST_CHANGE = 3
"""Round in which mu can first have changed: two losses must be known."""


def stages_on_network(
    stages: tuple[Stage, ...], network: Network | OpenNetwork
) -> Iterator[Problem]:
    """Some networks cannot be compiled; FedBN and personal norms need norm layers."""
    for index, stage in enumerate(stages):
        if stage.training.compile and isinstance(network, NOT_COMPILED):
            yield Problem(
                where=f"stages[{index}].training.compile",
                what=f"{network.kind} cannot be compiled, because MONAI's code of it asks about "
                "its input in ways that torch.compile does not follow",
                fix="Set it to false, or choose another network.",
            )
    if network.norm != "none":
        return
    for index, stage in enumerate(stages):
        if isinstance(stage, Pretrain) and stage.exchange == "all_but_norms":
            yield Problem(
                where=f"stages[{index}].exchange",
                what="norm layers are to stay at their site, but the network has none",
                fix='Set network.norm to "instance", or exchange to "whole".',
            )
        if not isinstance(stage, Personalise) and isinstance(stage.strategy, FedBN):
            yield Problem(
                where=f"stages[{index}].strategy.kind",
                what="fedbn keeps norm layers at their site, but the network has none",
                fix='Set network.norm to "instance", or use "fedavg".',
            )
        if isinstance(stage, Personalise) and stage.method.parts == "norms":
            yield Problem(
                where=f"stages[{index}].method.parts",
                what="norm layers are to be personal, but the network has none",
                fix='Set network.norm to "instance", or use "all".',
            )


def stages_alone(stages: tuple[Stage, ...]) -> Iterator[Problem]:
    """Their order, settings without effect, and pulls that overshoot."""
    kinds = [stage.kind for stage in stages]
    if kinds not in _ORDERS:
        yield Problem(
            where="stages",
            what=f"the stages are {', '.join(kinds)}",
            fix="Give one finetune stage, before it at most one pretrain stage, and after it at "
            "most one personalise stage.",
        )
    for index, stage in enumerate(stages):
        where = f"stages[{index}]"
        match stage:
            case Pretrain():
                yield from _federated(f"{where}.strategy", stage)
                if isinstance(stage.strategy, Scaffold) and stage.exchange != "whole":
                    yield Problem(
                        where=f"{where}.exchange",
                        what="scaffold corrects every gradient, and what does not travel has none "
                        "of the other sites to be corrected by",
                        fix='Set it to "whole", or choose another strategy.',
                    )
            case Finetune():
                yield from _federated(f"{where}.strategy", stage)
                yield from _start(f"{where}.start", stage)
                if index > 0 and (before := stages[index - 1]).kind == "pretrain":
                    yield from _frozen(f"{where}.start.frozen", stage, before)
                if stage.start is not None and "pretrain" not in kinds[:index]:
                    yield Problem(
                        where=f"{where}.start",
                        what="there is no pretrain stage before it to start from",
                        fix="Leave it out, or put a pretrain stage first.",
                    )
            case Personalise():
                if isinstance(stage.method, Ditto):
                    yield from _overshoot(f"{where}.method.pull", stage.method.pull, stage.training)
            case _:
                assert_never(stage)


def _start(where: str, stage: Finetune) -> Iterator[Problem]:
    start = stage.start
    if start is None:
        return
    if start.heads_first_rounds >= stage.rounds:
        yield Problem(
            where=f"{where}.heads_first_rounds",
            what=f"the heads alone learn in {start.heads_first_rounds} rounds, and the stage has "
            f"{stage.rounds}",
            fix="Use fewer, or more rounds.",
        )
    if isinstance(stage.strategy, Scaffold) and (
        start.heads_first_rounds or start.frozen != "nothing"
    ):
        yield Problem(
            where=where,
            what="scaffold corrects every gradient by those of the round before, and not every "
            "tensor has one where parts stand still",
            fix='Use another strategy, or heads_first_rounds = 0 and frozen = "nothing".',
        )


def _frozen(where: str, stage: Finetune, before: Stage) -> Iterator[Problem]:
    """What was not pretrained everywhere must not stand still."""
    assert isinstance(before, Pretrain)
    if stage.start is None or stage.start.frozen == "nothing":
        return
    keeps_norms = before.exchange == "all_but_norms" or isinstance(before.strategy, FedBN)
    if keeps_norms or isinstance(before.task, MaskedTokens):
        what = (
            "norm layers stay at the sites in pretraining"
            if keeps_norms
            else ("mae_vit pretrains the transformer alone, which is not all of unetr's encoder")
        )
        yield Problem(
            where=where,
            what=f"the encoder is to stand still, and {what}",
            fix='Use frozen = "nothing", or another pretraining.',
        )


def _federated(where: str, stage: Pretrain | Finetune) -> Iterator[Problem]:
    strategy = stage.strategy
    if isinstance(strategy, FedProx | AdaptiveFedProx):
        yield from _overshoot(f"{where}.mu", strategy.mu, stage.training)
    if isinstance(strategy, AdaptiveFedProx) and stage.rounds < _FIRST_CHANGE:
        yield Problem(
            where=f"{where}.kind",
            what=f"mu cannot change before round {_FIRST_CHANGE}, and the stage has {stage.rounds}",
            fix=f'Use {_FIRST_CHANGE} rounds or more, or "fedprox".',
        )


def _overshoot(where: str, strength: float, training: Training) -> Iterator[Problem]:
    """A plain gradient step along a quadratic pull is only stable while the product is small."""
    optimiser = training.optimiser
    if isinstance(optimiser, Sgd) and strength * optimiser.learning_rate > 1:
        yield Problem(
            where=where,
            what=f"{strength:g} times the learning rate {optimiser.learning_rate:g} is above 1, "
            "so that a step jumps past the global weights it is pulled to",
            fix=f"Use a pull up to {1 / optimiser.learning_rate:g}, or a lower learning rate.",
        )
