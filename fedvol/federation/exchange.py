"""Which tensors travel, decided by kind and fixed in the plan."""

from dataclasses import dataclass

from fedvol.config.strategy import FedBN, Strategy
from fedvol.errors import NoNormLayersError
from fedvol.plan import NetworkDescription, TensorKind, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A division of a network's tensors.

    Attributes:
        shared: Tensors that travel and are averaged.
        local: Floating-point tensors that stay at their site between rounds.
    """

    shared: tuple[TensorSpec, ...]
    local: tuple[TensorSpec, ...]


def build_exchange(network: NetworkDescription, *, strategy: Strategy) -> Exchange:
    """Divide a network's tensors as the strategy wants it; buffers are in neither part.

    Raises:
        NoNormLayersError: FedBN was asked of a network without norm layers.
    """
    floating = [spec for spec in network.tensors if spec.kind is not TensorKind.BUFFER]
    if not isinstance(strategy, FedBN):
        return Exchange(shared=tuple(floating), local=())
    local = tuple(spec for spec in floating if spec.kind is TensorKind.NORM)
    if not local:
        raise NoNormLayersError(
            "stages.strategy.kind",
            "fedbn keeps norm layers at their site, and the network has none",
            'Set network.norm to "instance", "group" or "batch", or choose another strategy.',
        )
    shared = tuple(spec for spec in floating if spec.kind is not TensorKind.NORM)
    return Exchange(shared=shared, local=local)
