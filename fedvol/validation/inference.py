"""From an image to class probabilities: sliding window, mirroring, ensembles."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from fedvol.data.case_store import PADDING
from fedvol.errors import TrainingDivergedError

Image = Float[np.ndarray, "channel i j k"]
Probabilities = Float[np.ndarray, "class i j k"]
Predictor = Callable[[Image], Probabilities]
"""Whatever turns a prepared image into class probabilities on the same grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """How a network is applied to volumes larger than its patch; always in float32.

    Attributes:
        patch: Voxels of a window along i, j, k.
        overlap: Overlap of neighbouring windows, as a share of the patch.
        mirror_axes: Axes of mirroring; the probabilities of all their subsets are averaged, so
            three axes take eight times as long as none.
        device: Where the network is.
        batch: Windows in one forward pass.
    """

    patch: tuple[int, int, int]
    overlap: float
    mirror_axes: tuple[int, ...]
    device: torch.device | str
    batch: int = 1


def single(net: nn.Module, *, window: SlidingWindow) -> Predictor:
    """A predictor from one network."""
    return lambda image: predict(net, image=image, window=window)


def ensemble(nets: Sequence[nn.Module], *, window: SlidingWindow) -> Predictor:
    """A predictor that averages the probabilities of several networks.

    Raises:
        ValueError: There is no network.
    """
    if not nets:
        raise ValueError("an ensemble needs a network")

    def mean(image: Image) -> Probabilities:
        total = predict(nets[0], image=image, window=window)
        for net in nets[1:]:
            total += predict(net, image=image, window=window)
        return total / np.float32(len(nets))

    return mean


def predict(net: nn.Module, *, image: Image, window: SlidingWindow) -> Probabilities:
    """Class probabilities of a volume, the mean over windows weighted by a Gaussian.

    Volumes smaller than the patch are padded evenly on both sides; where one window holds the
    volume, it is the only one. The device holds one batch of windows at a time; main memory
    holds one float32 map per class and one of weights, whatever the number of windows and mirrors.

    Args:
        net: Gives logits, or a tuple of logits with the finest first; already on the device.
        image: Normalised intensities, float32.
        window: Patch, overlap and mirroring.

    Returns:
        Probabilities, float32; they add up to 1 in every voxel.

    Raises:
        TrainingDivergedError: The network gives NaN or infinite values.

    Reference: Isensee et al. (2021), nnU-Net, for Gaussian weights and mirroring.
    """
    sides = image.shape[1:]
    margins = [max(size - side, 0) for size, side in zip(window.patch, sides, strict=True)]
    before = [margin // 2 for margin in margins]
    pads = [(0, 0), *((b, m - b) for b, m in zip(before, margins, strict=True))]
    whole = image.astype(np.float32, copy=False)
    padded = torch.from_numpy(np.pad(whole, pads, constant_values=PADDING))[None]

    def forward(patches: Tensor) -> Tensor:
        return _mirrored(net, patches=patches, window=window)

    with torch.inference_mode(), _evaluating(net):
        if tuple(padded.shape[2:]) == window.patch:
            probabilities = forward(padded.to(window.device)).cpu()
        else:
            probabilities = sliding_window_inference(
                padded,
                roi_size=window.patch,
                sw_batch_size=window.batch,
                predictor=forward,
                overlap=window.overlap,
                mode="gaussian",
                sw_device=window.device,
                device="cpu",
            )
    assert isinstance(probabilities, Tensor)
    inner = (slice(start, start + side) for start, side in zip(before, sides, strict=True))
    result = np.ascontiguousarray(probabilities[0].numpy()[(slice(None), *inner)])
    if not all(np.isfinite(channel).all() for channel in result):
        raise TrainingDivergedError(
            "prediction",
            "the network gives NaN or infinite probabilities",
            "Lower stages.training.optimiser.learning_rate or set clip_grad_norm.",
        )
    return result


def _mirrored(
    net: nn.Module, *, patches: Float[Tensor, "batch channel i j k"], window: SlidingWindow
) -> Float[Tensor, "batch class i j k"]:
    """Mean probabilities over all subsets of the mirror axes, each turned back first."""
    axes = sorted({axis + 2 for axis in window.mirror_axes})
    subsets = [s for size in range(len(axes) + 1) for s in combinations(axes, size)]
    total = _probabilities(net, patches=patches)
    for subset in subsets[1:]:
        mirrored = _probabilities(net, patches=patches.flip(subset))
        total += mirrored.flip(subset)
    return total / len(subsets)


def _probabilities(
    net: nn.Module, *, patches: Float[Tensor, "batch channel i j k"]
) -> Float[Tensor, "batch class i j k"]:
    logits = net(patches)
    finest = logits if isinstance(logits, Tensor) else logits[0]
    return torch.softmax(finest.float(), dim=1)


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Switch a network to evaluation, then give each module its own mode back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
