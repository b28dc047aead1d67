"""A network is judged in evaluation mode, and is left as it was."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def judging(net: nn.Module) -> Generator[None]:
    """Evaluation mode without gradients; every module has the mode it had before afterwards."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, is_training in modes.items():
            module.training = is_training
