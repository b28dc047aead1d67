"""Training a part of a network while the rest stands still."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def only_trained(net: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Let only the named parameters be trainable inside; what was trainable is so again after.

    Args:
        net: The network.
        names: Parameters to train; names of other tensors are allowed and ignored.
    """
    frozen = [p for name, p in net.named_parameters() if p.requires_grad and name not in names]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def settle_frozen_norms(net: nn.Module) -> None:
    """Put norm layers whose weights are all frozen in evaluation mode.

    They then use and keep their running statistics, which belong to the part that stands still.
    """
    for module in net.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, _NormBase) and own and not any(p.requires_grad for p in own):
            module.eval()
