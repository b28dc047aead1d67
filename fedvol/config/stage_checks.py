"""What the keys of a stage must be to each other and to the network."""

from collections.abc import Iterator
from typing import assert_never

from fedvol.config.learning import Sgd, Training
from fedvol.config.monai_networks import BasicUNet, SwinUNETR
from fedvol.config.network import Network
from fedvol.config.open_study import OpenNetwork
from fedvol.config.pretext import MaskedTokens, RotationPrediction, VoCo
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
                yield from _probe(f"{where}.probe", stage)
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
                before = stages[index - 1] if index > 0 else None
                if isinstance(before, Pretrain):
                    yield from _frozen(f"{where}.start.frozen", stage, before)
                yield from _source(f"{where}.start", stage, has_pretraining="pretrain" in kinds)
            case Personalise():
                if isinstance(stage.method, Ditto):
                    yield from _overshoot(f"{where}.method.pull", stage.method.pull, stage.training)
            case _:
                assert_never(stage)


def _probe(where: str, stage: Pretrain) -> Iterator[Problem]:
    """Heads can be trained alone only on what is pretrained everywhere, and in some round."""
    if stage.probe is None:
        return
    if lacking := _not_pretrained(stage, has_decoder=True):
        yield Problem(
            where=where,
            what="new heads are to be trained on a network that was not all pretrained: " + lacking,
            fix="Leave it out, or use another pretraining.",
        )
    if stage.probe.every > stage.rounds:
        yield Problem(
            where=f"{where}.every",
            what=f"the first probe would be after round {stage.probe.every}, and the stage has "
            f"{stage.rounds}",
            fix="Use fewer, or more rounds.",
        )


def _source(where: str, stage: Finetune, *, has_pretraining: bool) -> Iterator[Problem]:
    """Finetuning starts from a pretrain stage or from a file, and from no more than one of them."""
    if stage.start is None:
        return
    weights = stage.start.weights
    if has_pretraining and weights is not None:
        yield Problem(
            where=f"{where}.weights",
            what="the study pretrains by itself, and finetuning cannot start from both",
            fix="Leave out either the pretrain stage or the file of weights.",
        )
    if not has_pretraining and weights is None:
        yield Problem(
            where=where,
            what="there is no pretrain stage before it to start from, and no file of weights",
            fix="Leave it out, put a pretrain stage first, or name a file under weights.",
        )
    if weights is not None and weights.file is None and weights.digest is None:
        yield Problem(
            where=f"{where}.weights.file", what="this key is missing", fix="Name the file."
        )


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
    if start.heads_first_rounds and start.frozen == "all_but_heads":
        yield Problem(
            where=f"{where}.heads_first_rounds",
            what="the heads alone learn in every round, so that it has no effect",
            fix='Leave it out, or use another "frozen".',
        )
    if start.frozen == "all_but_heads" and start.parts == "encoder":
        yield Problem(
            where=f"{where}.frozen",
            what="the decoder is to stand still, and the encoder alone is taken over",
            fix='Use parts = "whole" or frozen = "encoder".',
        )
    if start.frozen != "nothing" and isinstance(stage.strategy, FedBN):
        yield Problem(
            where=f"{where}.frozen",
            what="fedbn's norm layers begin anew at each site, and would stand still like that",
            fix='Use frozen = "nothing", or another strategy.',
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


def _frozen(where: str, stage: Finetune, before: Pretrain) -> Iterator[Problem]:
    """What was not pretrained everywhere must not stand still."""
    if stage.start is None or stage.start.frozen == "nothing":
        return
    if lacking := _not_pretrained(before, has_decoder=stage.start.frozen == "all_but_heads"):
        yield Problem(
            where=where,
            what=f"what is to stand still was not all pretrained: {lacking}",
            fix='Use frozen = "nothing", or another pretraining.',
        )


def _not_pretrained(before: Pretrain, *, has_decoder: bool) -> str:
    """Why the encoder, or encoder and decoder, are not pretrained as a whole; empty: they are."""
    if before.exchange == "all_but_norms" or isinstance(before.strategy, FedBN):
        return "norm layers stay at the sites in pretraining"
    if isinstance(before.task, MaskedTokens):
        return "mae_vit pretrains the transformer alone, which is not all of unetr's encoder"
    if has_decoder and isinstance(before.task, VoCo | RotationPrediction):
        return f"{before.task.kind} pretrains the encoder alone"
    if has_decoder and before.exchange == "encoder":
        return "the encoder alone travels in pretraining"
    return ""


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
