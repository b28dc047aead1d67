"""Whether the device that is to train can do what training does: a convolution and its gradient."""

import torch
from torch.nn import functional

from fedvol.site.doctor import Finding, Verdict

_TOLERANCE = 1e-2
"""A GPU sums in another order, and may round to TF32."""


def check_device(name: str) -> Finding:
    """Convolve a volume there and here, and compare.

    Args:
        name: `cpu` or `cuda`.
    """
    if name == "cuda" and not torch.cuda.is_available():
        return _wrong(
            "cuda is asked for, and there is no usable GPU",
            "See `nvidia-smi`; start the container with --gpus all; else set resources.device to "
            "cpu.",
        )
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, 4, 24, 24, 24), generator=generator)
    kernel = torch.randn((8, 4, 3, 3, 3), generator=generator)
    here = _gradient(image, kernel)
    try:
        there = _gradient(image.to(name), kernel.to(name)).cpu()
    except RuntimeError as error:
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return _wrong(
            f"a convolution fails there: {first}",
            "See that the driver fits this version of PyTorch and that no other process fills the "
            "memory of the GPU.",
        )
    apart = float((there - here).norm() / here.norm())
    if not apart < _TOLERANCE:
        return _wrong(
            f"a convolution there differs by {apart:.1%} from the CPU's",
            "Test the GPU with its maker's tools; do not train on it.",
        )
    title = torch.cuda.get_device_name() if name == "cuda" else "CPU"
    return Finding(
        name="device", verdict=Verdict.FINE, what=f"{title}: a convolution gives what it should"
    )


def _gradient(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    weights = kernel.clone().requires_grad_(True)
    functional.conv3d(image, weights, padding=1).square().mean().backward()
    assert weights.grad is not None
    return weights.grad


def _wrong(what: str, fix: str) -> Finding:
    return Finding(name="device", verdict=Verdict.WRONG, what=what, fix=fix)
