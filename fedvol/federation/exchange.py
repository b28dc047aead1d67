"""Which tensors travel, decided by kind and fixed in the plan."""

from dataclasses import dataclass

from fedvol.config.strategy import FedBN, Scaffold, Strategy
from fedvol.errors import NoNormLayersError
from fedvol.federation.companions import companion_specs
from fedvol.plan import NetworkDescription, TensorKind, TensorSpec

CONTROL = "control"
"""Companion of SCAFFOLD: the mean gradient of the sites, or of one site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A division of a network's tensors.

    Attributes:
        shared: Tensors of the global state, which go to the sites.
        local: Floating-point tensors that stay at their site between rounds.
        companions: Names of companions that travel beside the shared tensors.
    """

    shared: tuple[TensorSpec, ...]
    local: tuple[TensorSpec, ...]
    companions: tuple[str, ...] = ()

    @property
    def down(self) -> tuple[TensorSpec, ...]:
        """What goes to a site that trains."""
        return (*self.shared, *companion_specs(self.shared, names=self.companions))

    @property
    def up(self) -> tuple[TensorSpec, ...]:
        """What comes back from it, as updates of these tensors."""
        return self.down


def build_exchange(network: NetworkDescription, *, strategy: Strategy) -> Exchange:
    """Divide a network's tensors as the strategy wants it; buffers are in neither part.

    Raises:
        NoNormLayersError: FedBN was asked of a network without norm layers.
    """
    floating = _floating(network)
    if not isinstance(strategy, FedBN):
        companions = (CONTROL,) if isinstance(strategy, Scaffold) else ()
        return Exchange(shared=floating, local=(), companions=companions)
    local = tuple(spec for spec in floating if spec.kind is TensorKind.NORM)
    if not local:
        raise NoNormLayersError(
            "stages.strategy.kind",
            "fedbn keeps norm layers at their site, and the network has none",
            'Set network.norm to "instance", "group" or "batch", or choose another strategy.',
        )
    shared = tuple(spec for spec in floating if spec.kind is not TensorKind.NORM)
    return Exchange(shared=shared, local=local)


def _floating(network: NetworkDescription) -> tuple[TensorSpec, ...]:
    return tuple(spec for spec in network.tensors if spec.kind is not TensorKind.BUFFER)
