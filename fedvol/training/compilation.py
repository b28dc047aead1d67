"""A network run through `torch.compile`, and plain words for what keeps it from working."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from fedvol.errors import CompileError

_WHERE = "stages.training.compile"
_MOST_VARIANTS = 64
"""Compiled forms of one network in a process: by patch, batch, precision, threads, frozen part."""


def compiled(net: nn.Module) -> nn.Module:
    """The network as `torch.compile` runs it; weights and their names stay the network's own.

    It is compiled when it is first applied, whole, for the shapes it is given. Whoever wraps a
    network of the same architecture again, with the same shapes, gets what was compiled before:
    it belongs to the code, not to the wrapper. Shapes are never made variable, so that what is
    computed follows from the study alone, and not from what the process compiled before.

    Args:
        net: On its device, in its layout and mode.
    """
    return torch.compile(  # pyright: ignore[reportCallIssue]  # the stub does not know the limit
        net, fullgraph=True, dynamic=False, recompile_limit=_MOST_VARIANTS
    )


@contextmanager
def compile_errors() -> Iterator[None]:
    """Tell what the compiler raises inside as an error of the study's setting.

    Raises:
        CompileError: The network cannot be compiled, or not here.
    """
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    try:
        yield
    except (TorchDynamoException, FailOnRecompileLimitHit) as error:
        raise CompileError(
            _WHERE,
            f"torch.compile cannot compile the network here: {_first_line(error)}",
            "Set compile = false, or choose another network.",
        ) from error


@cache
def require_compiler(device: torch.device) -> None:
    """Compile a line on a device, to learn before any training whether that can be done.

    What was found is remembered; a machine that could not is asked again.

    Args:
        device: Where networks will be trained.

    Raises:
        CompileError: What `torch.compile` needs is not there.
    """
    from torch._dynamo.exc import TorchDynamoException

    try:
        torch.compile(_line, fullgraph=True, dynamic=False)(torch.zeros(8, device=device))
    except TorchDynamoException as error:
        raise CompileError(
            _WHERE,
            f"torch.compile does not work on this machine's {_NAMES.get(device.type, device.type)}:"
            f" {_first_line(error)}",
            f"Install {_NEEDS.get(device.type, 'what it names')}, or set compile = false.",
        ) from error


_NAMES = {"cpu": "CPU", "cuda": "GPU"}
_NEEDS = {
    "cpu": "a C++ compiler (g++) and Python's headers",
    "cuda": "Triton, a C compiler (gcc) and Python's headers",
}


def _line(x: Tensor) -> Tensor:
    return x.relu() + 1


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__).rstrip(".")
