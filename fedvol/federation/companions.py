"""Companions: tensors that a strategy keeps beside the trainable ones, such as a momentum.

They lie in the same file as the global state, under reserved names, so that one digest covers
both and a round is written whole or not at all. No release holds them.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedvol.plan import TensorSpec

COMPANION_DTYPE = "float32"
"""Type in which companions are kept and travel."""

_MARK = "|"

Companions = Mapping[str, NDArray[np.float64]]
"""A tensor's companions by their own name, in the type in which they are computed with."""


def companion_name(companion: str, tensor: str) -> str:
    """Reserved name of a tensor's companion, such as `momentum|conv.weight`."""
    return f"{companion}{_MARK}{tensor}"


def companion_specs(specs: Iterable[TensorSpec], *, names: Iterable[str]) -> tuple[TensorSpec, ...]:
    """Each trainable tensor's companions, in the tensors' order.

    Raises:
        ValueError: A tensor's own name holds the reserved mark.
    """
    wanted, found = tuple(names), list[TensorSpec]()
    for spec in specs:
        if _MARK in spec.name:
            raise ValueError(f"tensor {spec.name!r} has a name reserved for companions")
        if spec.trainable:
            found += [
                spec.model_copy(
                    update={"name": companion_name(name, spec.name), "dtype": COMPANION_DTYPE}
                )
                for name in wanted
            ]
    return tuple(found)
