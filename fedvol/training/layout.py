"""Where a network's weights lie, and in which order; both decide the last bits of its outputs."""

import torch
from torch import nn

from fedvol.config.learning import Training


def place(net: nn.Module, *, training: Training, device: torch.device) -> torch.memory_format:
    """Move a network to a device, in the memory layout of a stage's training.

    Whoever trains or judges the models of a stage places the network first, so that it does not
    matter what the process did before.

    Args:
        net: Moved in place.
        training: The stage's settings.
        device: Where to.

    Returns:
        The layout, for batches.
    """
    layout = torch.channels_last_3d if training.channels_last else torch.contiguous_format
    net.to(device=device, memory_format=layout)  # pyright: ignore[reportCallIssue]  # stub's gap
    return layout
