"""A network's tensors: their description, and the way to arrays and back."""

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fedvol.errors import CheckpointError, PlanMismatchError
from fedvol.plan import NetworkDescription, TensorKind, TensorSpec
from fedvol.types import State

NORM_LAYERS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Every norm layer is one of these; `_NormBase` is the base of all batch and instance norms."""


@runtime_checkable
class Parted(Protocol):
    """A network that says what its modules are."""

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside.

        A module inside a named one may be named too: the longer name counts.
        """
        ...


def describe(net: nn.Module) -> tuple[TensorSpec, ...]:
    """Every tensor of a network's state, in its order, with the part it belongs to.

    A tensor that is not floating-point is a buffer; one that belongs to a norm layer, by the
    type of the module, is a norm; the rest is what the network's `parts` say.
    """
    assert isinstance(net, Parted), f"{type(net)} has no parts"
    norms = [name for name, module in net.named_modules() if isinstance(module, NORM_LAYERS)]
    kinds = net.parts()
    parameters = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    return tuple(
        TensorSpec(
            name=name,
            shape=tuple(tensor.shape),
            dtype=_dtype(tensor),
            kind=_kind(name, tensor, norms=frozenset(norms), parts=kinds),
            trainable=name in parameters,
        )
        for name, tensor in net.state_dict().items()
    )


def describe_parts(net: nn.Module) -> tuple[TensorSpec, ...]:
    """The tensors of `describe`, norm layers and buffers by the part of the network they lie in.

    A norm layer outside of every part belongs to that of the tensor before it.
    """
    assert isinstance(net, Parted), f"{type(net)} has no parts"
    kinds = net.parts()
    part = TensorKind.STEM
    found: list[TensorSpec] = []
    for spec in describe(net):
        part = _part(spec.name, kinds) or part
        found.append(spec.model_copy(update={"kind": part}))
    return tuple(found)


def parts_of(net: nn.Module) -> dict[str, TensorKind]:
    """The part of a network that each tensor of its state lies in, by name (`describe_parts`)."""
    return {spec.name: spec.kind for spec in describe_parts(net)}


def require_architecture(net: nn.Module, description: NetworkDescription) -> None:
    """Refuse a network that is not the described one.

    Raises:
        PlanMismatchError: A tensor differs in name, shape, type, kind or place.
    """
    ours, theirs = describe(net), description.tensors
    if ours == theirs:
        return
    pairs = zip(ours, theirs, strict=False)
    first = next((f"{a.name} for {b.name}" for a, b in pairs if a != b), "its number of tensors")
    raise PlanMismatchError(
        "network",
        f"the network built here is not the plan's; first difference: {first}",
        "Use the fedvol version and the study the plan was made with.",
    )


def to_arrays(net: nn.Module, names: Iterable[str] | None = None) -> dict[str, NDArray[np.generic]]:
    """Copies of a network's tensors, in C order.

    Args:
        net: The network.
        names: Which tensors, in this order; all of them by default.

    Raises:
        CheckpointError: The network has no tensor of some name.
    """
    own = net.state_dict()
    wanted = list(own) if names is None else list(names)
    _require_known(wanted, own)
    return {name: np.array(own[name].cpu().numpy(), order="C", copy=True) for name in wanted}


def load_arrays(net: nn.Module, state: State) -> None:
    """Overwrite some of a network's tensors; those not in `state` stay as they are.

    Raises:
        CheckpointError: A name is unknown, or a shape or type differs; nothing is overwritten.
    """
    own = net.state_dict()
    _require_known(state, own)
    for name, array in state.items():
        shape, dtype = tuple(own[name].shape), _dtype(own[name])
        if array.shape != shape or array.dtype.name != dtype:
            raise CheckpointError(
                f"tensor {name}",
                f"{array.dtype.name} of shape {array.shape} where the network has "
                f"{dtype} of shape {shape}",
                "Use a checkpoint of this network.",
            )
    with torch.no_grad():
        for name, array in state.items():
            own[name].copy_(torch.tensor(array))


def _require_known(names: Iterable[str], own: Mapping[str, Tensor]) -> None:
    unknown = [name for name in names if name not in own]
    if unknown:
        raise CheckpointError(
            f"tensor {unknown[0]}",
            f"the network has no tensor of this name ({len(unknown)} unknown in all)",
            "Use a checkpoint of this network.",
        )


def _kind(
    name: str, tensor: Tensor, *, norms: frozenset[str], parts: Mapping[str, TensorKind]
) -> TensorKind:
    if not tensor.is_floating_point():
        return TensorKind.BUFFER
    if name.rpartition(".")[0] in norms:
        return TensorKind.NORM
    part = _part(name, parts)
    assert part is not None, f"{name} belongs to no part of the network"
    return part


def _part(name: str, parts: Mapping[str, TensorKind]) -> TensorKind | None:
    owner = name
    while owner and owner not in parts:
        owner = owner.rpartition(".")[0]
    return parts.get(owner)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
