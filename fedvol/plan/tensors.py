"""The tensors of a network, and the part each belongs to, without torch."""

from enum import StrEnum

from fedvol.config.base import Section
from fedvol.plan.canonical import digest_json
from fedvol.types import Digest


class TensorKind(StrEnum):
    """The part of a network a tensor belongs to; norms first, wherever they sit."""

    NORM = "norm"
    """Affine weights and running statistics of a norm layer, by module type."""
    STEM = "stem"
    ENCODER = "encoder"
    DECODER = "decoder"
    HEAD = "head"
    BUFFER = "buffer"
    """Whatever is not a floating-point tensor; never averaged."""


class TensorSpec(Section):
    """One tensor of a network's state."""

    name: str
    """Its key in the state."""
    shape: tuple[int, ...]
    """Its axes."""
    dtype: str
    """NumPy name of its type, such as `float32`."""
    kind: TensorKind
    """Part of the network."""
    trainable: bool = True
    """Whether an optimiser changes it; running statistics of a norm layer are only averaged."""

    @property
    def size(self) -> int:
        """Number of values."""
        size = 1
        for side in self.shape:
            size *= side
        return size


class NetworkDescription(Section):
    """What server and exchange policies know of a network, without torch."""

    tensors: tuple[TensorSpec, ...]
    """Every tensor of the state, in the network's order."""
    initial_digest: Digest
    """`state_digest` of the initial weights."""

    @property
    def architecture(self) -> Digest:
        """Digest of names, shapes, types and kinds; weights left out."""
        return digest_json([spec.model_dump(mode="json") for spec in self.tensors])
