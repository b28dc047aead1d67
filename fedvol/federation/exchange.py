"""Which tensors travel, decided by kind and fixed in the plan."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import assert_never

from fedvol.config.strategy import (
    FedBN,
    Finetune,
    Personalise,
    PersonalParts,
    Pretrain,
    Scaffold,
    Stage,
    Strategy,
    Travels,
)
from fedvol.errors import NetworkConfigError, NoNormLayersError
from fedvol.federation.companions import companion_specs
from fedvol.plan import NetworkDescription, Plan, Pretraining, TensorKind, TensorSpec

CONTROL = "control"
"""Companion of SCAFFOLD: the mean gradient of the sites, or of one site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A division of a network's tensors.

    Attributes:
        shared: Tensors of the global state, which go to the sites.
        local: Floating-point tensors that stay at their site between rounds.
        companions: Names of companions that travel beside the shared tensors.
        returns_updates: Whether sites return an update; if not, their report alone comes up.
    """

    shared: tuple[TensorSpec, ...]
    local: tuple[TensorSpec, ...]
    companions: tuple[str, ...] = ()
    returns_updates: bool = True

    @property
    def down(self) -> tuple[TensorSpec, ...]:
        """What goes to a site that trains."""
        return (*self.shared, *companion_specs(self.shared, names=self.companions))

    @property
    def up(self) -> tuple[TensorSpec, ...]:
        """What comes back from it, as updates of these tensors."""
        return self.down if self.returns_updates else ()


def build_exchange(
    network: NetworkDescription,
    *,
    strategy: Strategy,
    travels: Travels = "whole",
    pretraining: Pretraining | None = None,
) -> Exchange:
    """Divide a network's tensors as strategy and policy want it; buffers are in neither part.

    Args:
        network: Its tensors.
        strategy: FedBN keeps norm layers at their sites.
        travels: What else does.
        pretraining: Knows the parts of the network, norm layers in them included, for the policies
            that keep a part at the sites.

    Raises:
        NoNormLayersError: Norm layers are to stay at their sites, and the network has none.
    """
    floating = _floating(network)
    norms_stay = isinstance(strategy, FedBN) or travels == "all_but_norms"
    apart = _apart(floating, travels=travels, pretraining=pretraining)
    local = tuple(
        spec
        for spec in floating
        if spec.name in apart or (norms_stay and spec.kind is TensorKind.NORM)
    )
    if norms_stay and not any(spec.kind is TensorKind.NORM for spec in local):
        raise NoNormLayersError(
            "stages.strategy.kind",
            "norm layers are to stay at their site, and the network has none",
            'Set network.norm to "instance", "group" or "batch", or choose another strategy.',
        )
    shared = tuple(spec for spec in floating if spec not in local)
    companions = (CONTROL,) if isinstance(strategy, Scaffold) else ()
    return Exchange(shared=shared, local=local, companions=companions)


def _apart(
    floating: Sequence[TensorSpec], *, travels: Travels, pretraining: Pretraining | None
) -> Collection[str]:
    """Names of the tensors of the parts that stay at their sites, norm layers in them included."""
    match travels:
        case "whole" | "all_but_norms":
            return frozenset()
        case "all_but_heads":
            assert pretraining is not None
            return frozenset(pretraining.heads)
        case "encoder":
            assert pretraining is not None
            return {spec.name for spec in floating} - set(pretraining.encoder)


def plan_exchange(plan: Plan, index: int) -> Exchange:
    """Divide the tensors of the network of a plan's stage as the stage wants it (`stage_exchange`).

    Args:
        plan: The plan.
        index: Which stage.
    """
    return stage_exchange(
        plan.network_of(index), stage=plan.study.stages[index], pretraining=plan.pretraining
    )


def stage_exchange(
    network: NetworkDescription, *, stage: Stage, pretraining: Pretraining | None = None
) -> Exchange:
    """Divide a network's tensors as a stage wants it.

    A personalise stage sends every tensor of the release down and takes none back; what it
    trains is local.

    Raises:
        NoNormLayersError: FedBN, or personal norms, were asked of a network without norm layers.
        NetworkConfigError: The network has no tensor of the parts that are to be personal.
    """
    match stage:
        case Pretrain():
            return build_exchange(
                network,
                strategy=stage.strategy,
                travels=stage.exchange,
                pretraining=pretraining,
            )
        case Finetune():
            return build_exchange(network, strategy=stage.strategy)
        case Personalise():
            return Exchange(
                shared=_floating(network),
                local=_personal(network, parts=stage.method.parts),
                returns_updates=False,
            )
        case _:
            assert_never(stage)


_KINDS: dict[PersonalParts, frozenset[TensorKind]] = {
    "all": frozenset(TensorKind) - {TensorKind.BUFFER},
    "norms": frozenset({TensorKind.NORM}),
    "head": frozenset({TensorKind.HEAD}),
    "decoder": frozenset({TensorKind.DECODER, TensorKind.HEAD}),
}


def _personal(network: NetworkDescription, *, parts: PersonalParts) -> tuple[TensorSpec, ...]:
    found = tuple(spec for spec in _floating(network) if spec.kind in _KINDS[parts])
    kinds = {spec.kind for spec in found if spec.trainable}
    # A "decoder" without one would be a personal head under another name.
    if kinds and (parts != "decoder" or TensorKind.DECODER in kinds):
        return found
    kind = NoNormLayersError if parts == "norms" else NetworkConfigError
    raise kind(
        "stages.method.parts",
        f'"{parts}" is to be trained at each site, and the network has no such tensor',
        'Use "all", or another network.',
    )


def _floating(network: NetworkDescription) -> tuple[TensorSpec, ...]:
    return tuple(spec for spec in network.tensors if spec.kind is not TensorKind.BUFFER)
