"""Models Genesis: restore a patch whose voxels were shuffled, recoloured and painted over.

Reference: Zhou et al. (2021), doi:10.1016/j.media.2020.101840.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Generator, Tensor, nn

from fedvol.config.network import Network
from fedvol.config.pretext import ModelsGenesis
from fedvol.data.batch import UnlabelledBatch
from fedvol.ssl.body import body_voxels, intensity_range
from fedvol.ssl.boxes import draw_boxes, slices
from fedvol.ssl.judging import judging
from fedvol.ssl.networks import dense_network
from fedvol.ssl.task import PretextPicture, PretextScore
from fedvol.ssl.windows import shuffle_in_windows
from fedvol.types import Triple

Patch = Float[Tensor, "channel i j k"]
Inside = Bool[Tensor, "i j k"]

_PAPER_VOXELS = 64 * 64 * 32
"""Voxels of the patch for which the paper gives a number of windows."""
_MAX_FLIPS = 3
_MAX_BOXES = 5
"""Most boxes painted, and most windows left, of one patch."""
_ANOTHER = 0.95
"""Chance that a box is followed by another."""
_BORDER = 3
"""Voxels at each face that no painted box reaches."""
_CURVE_STEPS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """Patches to be restored.

    Attributes:
        image: What the network sees; inside the range of each channel of the target.
        target: What it is to restore.
        inside: Which voxels of both lie in their volume; None: all of them.
    """

    image: Float[Tensor, "batch channel i j k"]
    target: Float[Tensor, "batch channel i j k"]
    inside: Bool[Tensor, "batch 1 i j k"] | None


@final
class ModelsGenesisTask:
    """Restoring, by the mean squared error over all voxels; a `Pretext`.

    The target is the patch, possibly flipped. Of it a share of the patches is shuffled inside small
    windows, all channels alike; then a share goes through random curves, one for each channel; then
    a share is painted over with uniform noise, either in a few boxes or all but a few windows.
    "Between 0 and 1" of the paper is between the extremes of each channel of the patch. Padding
    takes no part: it stays as it is, moves nowhere, and does not count in the error.

    Args:
        config: The task's section.
    """

    def __init__(self, config: ModelsGenesis) -> None:
        self._config = config

    def transform(self, batch: UnlabelledBatch) -> Disturbance:
        """Flip, shuffle, recolour and paint each patch by draws of its own."""
        generator = batch.generator()
        image, target = torch.empty_like(batch.image), torch.empty_like(batch.image)
        inside = None if batch.inside is None else torch.empty_like(batch.inside)
        for n, patch in enumerate(batch.image):
            axes = self._draw_flips(generator)
            target[n] = patch.flip(axes)
            if inside is not None and batch.inside is not None:
                inside[n] = batch.inside[n].flip(axes)
            within = None if inside is None else inside[n, 0]
            image[n] = self._disturb(target[n], within, generator)
        return Disturbance(image=image, target=target, inside=inside)

    def loss(self, net: nn.Module, batch: UnlabelledBatch) -> Float[Tensor, ""]:
        """Mean squared error of the network's first output, in float32."""
        disturbed = self.transform(batch)
        error = _squared_error(net(disturbed.image)[0], disturbed.target)
        return _mean(error, inside=disturbed.inside)

    def score(self, net: nn.Module, batch: UnlabelledBatch) -> PretextScore:
        """Loss, over all voxels and over the body, beside that of each channel's mean."""
        disturbed = self.transform(batch)
        target, inside = disturbed.target, disturbed.inside
        with judging(net):
            error = _squared_error(net(disturbed.image)[0], target)
        body = body_voxels(target, inside=inside)
        mean = torch.stack([_mean(part, inside=inside) for part in target.split(1, dim=1)])
        trivial = _mean((target - mean.view(1, -1, 1, 1, 1)).square(), inside=inside)
        return PretextScore(
            loss=_mean(error, inside=inside).item(),
            trivial_loss=trivial.item(),
            body_loss=_mean(error, inside=body).item() if body.any() else None,
        )

    def picture(self, net: nn.Module, batch: UnlabelledBatch) -> PretextPicture:
        """The first patch disturbed, as it was, and as it was restored."""
        disturbed = self.transform(batch)
        with judging(net):
            given = net(disturbed.image)[0][0]
        body = body_voxels(disturbed.target, inside=disturbed.inside)
        is_other = (disturbed.image != disturbed.target).any(dim=1, keepdim=True)
        return PretextPicture(
            shown=disturbed.image[0],
            wanted=disturbed.target[0],
            given=given.float(),
            changed=(is_other & body)[0, 0],
        )

    def _draw_flips(self, generator: Generator) -> list[int]:
        """Axes of a patch, counted from its channels, that are flipped."""
        count = _num_in_a_row(_MAX_FLIPS, self._config.flip_probability, generator)
        times = torch.randint(3, (count,), generator=generator).bincount(minlength=3)
        return [axis + 1 for axis in range(3) if times[axis] % 2]

    def _disturb(self, target: Patch, inside: Inside | None, generator: Generator) -> Patch:
        config, patch = self._config, target
        within = None if inside is None else inside[None, None]
        low, high = (end[0] for end in intensity_range(patch[None], inside=within))
        if _happens(config.shuffle_probability, generator):
            num_windows = round(config.shuffle_windows * patch[0].numel() / _PAPER_VOXELS)
            patch = _shuffle(
                patch, num_windows=max(1, num_windows), inside=inside, generator=generator
            )
        if _happens(config.intensity_probability, generator):
            patch = _recolour(patch, low=low, high=high, generator=generator)
        if _happens(config.paint_probability, generator):
            is_outpainted = _happens(config.outpaint_share, generator)
            draw_painted = _draw_all_but_windows if is_outpainted else _draw_boxes_inside
            painted = draw_painted(_grid(patch), generator).to(patch.device)
            noise = torch.rand(patch.shape, generator=generator).to(patch.device)
            patch = torch.where(painted, _between(low, high, share=noise), patch)
        return patch if inside is None else torch.where(inside, patch, target)


def models_genesis_network(
    network: Network, *, in_channels: int, patch: Triple, seed: int
) -> nn.Module:
    """The study's network giving intensities, unbounded; all but its head transfers by name.

    Args:
        network: The study's network.
        in_channels: Channels of the image.
        patch: Voxels of a patch along i, j, k.
        seed: Seed of the weights.
    """
    return dense_network(
        network, in_channels=in_channels, out_channels=in_channels, patch=patch, seed=seed
    )


def draw_curve(generator: Generator) -> Float32[Tensor, " step"]:
    """A random cubic Bézier curve over 0..1, at even steps; half the time it falls.

    Its ends are (0, 0) and (1, 1), and its other control points lie between them, so that both
    coordinates only grow along it: it keeps the order of intensities, or, where the second is read
    backwards, inverts it.

    Args:
        generator: On the CPU.
    """
    t = np.linspace(0, 1, _CURVE_STEPS + 1)
    basis = np.stack((3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2))
    points = torch.rand((2, 2), dtype=torch.float64, generator=generator).numpy()
    x, y = points @ basis + t**3
    if _happens(0.5, generator):
        y = y[::-1]
    return torch.from_numpy(np.interp(t, x, y).astype(np.float32))


def _recolour(patch: Patch, *, low: Tensor, high: Tensor, generator: Generator) -> Patch:
    """Each channel through a curve of its own, which maps its range onto itself."""
    extent = high - low
    safe = torch.where(extent > 0, extent, torch.ones_like(extent))
    at = (patch - low) / safe * _CURVE_STEPS
    step = at.long().clamp_(0, _CURVE_STEPS - 1)  # padding may lie outside the range, and stays
    share = torch.empty_like(patch)
    for channel in range(len(patch)):
        curve = draw_curve(generator).to(patch.device)
        before, after = curve[step[channel]], curve[step[channel] + 1]
        share[channel] = before + (after - before) * (at[channel] - step[channel])
    return _between(low, high, share=share)


def _shuffle(
    patch: Patch, *, num_windows: int, inside: Inside | None, generator: Generator
) -> Patch:
    """Every channel in the same way; padding stays."""
    grid = _grid(patch)
    i, j, k = (max(1, side // 10) for side in grid)
    windows = draw_boxes(
        num_windows, grid=grid, smallest=(1, 1, 1), largest=(i, j, k), generator=generator
    )
    order = torch.randperm(patch[0].numel(), generator=generator)
    sources = shuffle_in_windows(
        windows.to(patch.device), grid=grid, order=order.to(patch.device), inside=inside
    )
    return patch.flatten(1)[:, sources].view(patch.shape)


def _draw_boxes_inside(grid: Triple, generator: Generator) -> Bool[Tensor, "i j k"]:
    """In-painting: up to five boxes, away from the faces."""
    i, j, k = (max(1, side // 6) for side in grid)
    boxes = draw_boxes(
        _num_in_a_row(_MAX_BOXES, _ANOTHER, generator),
        grid=grid,
        smallest=(i, j, k),
        largest=(grid[0] // 3, grid[1] // 3, grid[2] // 3),
        border=_BORDER,
        generator=generator,
    )
    return _inside(boxes, grid)


def _draw_all_but_windows(grid: Triple, generator: Generator) -> Bool[Tensor, "i j k"]:
    """Out-painting: everything but one window and up to four more."""
    windows = draw_boxes(
        1 + _num_in_a_row(_MAX_BOXES - 1, _ANOTHER, generator),
        grid=grid,
        smallest=(3 * grid[0] // 7, 3 * grid[1] // 7, 3 * grid[2] // 7),
        largest=(4 * grid[0] // 7, 4 * grid[1] // 7, 4 * grid[2] // 7),
        generator=generator,
    )
    return ~_inside(windows, grid)


def _inside(boxes: Tensor, grid: Triple) -> Bool[Tensor, "i j k"]:
    mask = torch.zeros(grid, dtype=torch.bool)
    for box in slices(boxes):
        mask[box] = True
    return mask


def _between(low: Tensor, high: Tensor, *, share: Tensor) -> Tensor:
    """The value at a share of the way; kept within, whatever rounding does."""
    return (low + (high - low) * share).clamp(low, high)


def _happens(probability: float, generator: Generator) -> bool:
    return bool(torch.rand((), generator=generator) < probability)


def _num_in_a_row(most: int, probability: float, generator: Generator) -> int:
    """Successes before the first failure, `most` at most."""
    return int((torch.rand(most, generator=generator) < probability).cumprod(0).sum())


def _squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (output.float() - target).square()


def _mean(values: Tensor, *, inside: Bool[Tensor, "batch 1 i j k"] | None) -> Tensor:
    """Mean over some voxels of all channels; over all voxels with None."""
    if inside is None:
        return values.mean()
    return (values * inside).sum() / (inside.sum() * values.shape[1]).clamp_min(1)


def _grid(patch: Patch) -> Triple:
    i, j, k = patch.shape[1:]
    return i, j, k
