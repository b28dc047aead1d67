"""Random changes of training patches, for a whole batch, on any device.

Ranges are the study's, defaults those of the nnU-Net family (Isensee et al. 2021). Order: mirror,
rotation with zoom, noise, blur, brightness, contrast, low resolution, inverted gamma, gamma.
Everything random is drawn on the CPU, so devices differ by rounding only.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Generator, Tensor
from torch.nn import functional

from fedvol.config.data import Augmentation
from fedvol.data.warp import lower_resolution, move


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What happens to each sample; the neutral value leaves it bit for bit as it is.

    Attributes:
        mirror: Axes i, j, k that are flipped; neutral False.
        rotation_deg: Right-handed angles about i, then j, then k; neutral 0.
        zoom: Above 1 magnifies; neutral 1.
        noise_std: Deviation of Gaussian noise; neutral 0.
        blur_sigma: Deviation of the Gaussian kernel, voxels; neutral 0.
        brightness: Factor on intensities; neutral 1.
        contrast: Factor on the distance from the mean; neutral 1.
        low_resolution: Factor on the number of voxels per side; neutral 1.
        gamma_inverted: Exponent on the inverted image; neutral 1.
        gamma: Exponent; neutral 1.
    """

    mirror: Bool[Tensor, "batch 3"]
    rotation_deg: Float[Tensor, "batch 3"]
    zoom: Float[Tensor, " batch"]
    noise_std: Float[Tensor, " batch"]
    blur_sigma: Float[Tensor, " batch"]
    brightness: Float[Tensor, " batch"]
    contrast: Float[Tensor, " batch"]
    low_resolution: Float[Tensor, " batch"]
    gamma_inverted: Float[Tensor, " batch"]
    gamma: Float[Tensor, " batch"]

    @property
    def shows_beyond(self) -> bool:
        """Whether any sample may show what lies beyond its patch, which is 0."""
        return bool(self.rotation_deg.any() or (self.zoom < 1).any())


def draw_changes(batch_size: int, *, config: Augmentation, generator: Generator) -> Changes:
    """Draw what happens to each sample; the number of draws does not depend on the ranges.

    Args:
        batch_size: Number of samples.
        config: Ranges and probabilities.
        generator: On the CPU.
    """
    happens = torch.rand((9, batch_size), generator=generator)
    value = torch.rand((9, batch_size), generator=generator)
    turns = torch.rand((batch_size, 3), generator=generator) * 2 - 1
    flips = torch.rand((batch_size, 3), generator=generator) < 0.5

    def draw(row: int, probability: float, ends: tuple[float, float], neutral: float) -> Tensor:
        low, high = ends
        drawn = low + (high - low) * value[row]
        return torch.where(happens[row] < probability, drawn, torch.full_like(drawn, neutral))

    allowed = torch.tensor([axis in config.mirror_axes for axis in range(3)])
    rotated = (happens[0] < config.rotation_probability)[:, None]
    return Changes(
        mirror=flips & allowed,
        rotation_deg=torch.where(rotated, turns * config.rotation_deg, torch.zeros_like(turns)),
        zoom=draw(1, config.scale_probability, config.scale, 1.0),
        noise_std=draw(2, config.noise_probability, (0.0, config.noise_variance), 0.0).sqrt(),
        blur_sigma=draw(3, config.blur_probability, config.blur_sigma, 0.0),
        brightness=draw(4, config.brightness_probability, config.brightness, 1.0),
        contrast=draw(5, config.contrast_probability, config.contrast, 1.0),
        low_resolution=draw(6, config.low_resolution_probability, config.low_resolution, 1.0),
        gamma_inverted=draw(7, config.gamma_invert_probability, config.gamma, 1.0),
        gamma=draw(8, config.gamma_probability, config.gamma, 1.0),
    )


def change_in_place(
    images: Float[Tensor, "batch channel i j k"],
    labels: Integer[Tensor, "batch i j k"],
    *,
    changes: Changes,
    generator: Generator,
) -> None:
    """Apply drawn changes to patches that nothing else needs.

    Args:
        images: Intensities.
        labels: Class indices, of any integer type; the smaller, the faster.
        changes: One row per sample.
        generator: On the CPU; gives the voxels of the noise.
    """
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        axes = [axis for axis in range(3) if changes.mirror[index, axis]]
        rotation_deg, zoom = changes.rotation_deg[index], float(changes.zoom[index])
        new_image, new_label = image, label
        if axes:
            new_image, new_label = image.flip([axis + 1 for axis in axes]), label.flip(axes)
        if zoom != 1 or rotation_deg.any():
            new_image, new_label = move(new_image, new_label, rotation_deg=rotation_deg, zoom=zoom)
        new_image = _change_intensities(new_image, changes, index=index, generator=generator)
        if new_image is not image:
            image.copy_(new_image)
        if new_label is not label:
            label.copy_(new_label)


def blur(image: Float[Tensor, "channel i j k"], *, sigma: float) -> Float[Tensor, "channel i j k"]:
    """Gaussian blur, axis by axis, cut at three deviations, edges continued.

    Args:
        image: Intensities.
        sigma: Deviation of the kernel, voxels; positive.
    """
    radius = max(1, int(3 * sigma + 0.5))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (kernel / kernel.sum()).tolist()
    out = functional.pad(image[None], (radius,) * 6, mode="replicate")[0]
    for axis in (1, 2, 3):
        # Shifted sums: on a CPU several times faster than a convolution with a thin kernel.
        padded, side = out, image.shape[axis]
        out = padded.narrow(axis, 0, side) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            out.add_(padded.narrow(axis, shift, side), alpha=weight)
    return out


def change_gamma_in_place(image: Float[Tensor, "channel i j k"], *, gamma: float) -> None:
    """Raise intensities, scaled to 0..1 per channel, to a power; minimum and maximum stay.

    Args:
        image: Intensities.
        gamma: Exponent; positive.
    """
    low, high = _range(image)
    extent = high - low
    safe = torch.where(extent > 0, extent, torch.ones_like(extent))
    image.sub_(low).div_(safe).pow_(gamma).mul_(extent).add_(low)


def change_contrast_in_place(image: Float[Tensor, "channel i j k"], *, factor: float) -> None:
    """Scale the distance from each channel's mean, kept inside the channel's range.

    Args:
        image: Intensities.
        factor: Above 1 raises the contrast.
    """
    low, high = _range(image)
    mean = image.mean((1, 2, 3), keepdim=True)
    image.sub_(mean).mul_(factor).add_(mean).clamp_(low, high)


def _range(image: Float[Tensor, "channel i j k"]) -> tuple[Tensor, Tensor]:
    """Smallest and largest intensity of each channel, as (channel, 1, 1, 1)."""
    voxels = (1, 2, 3)
    return image.amin(voxels, keepdim=True), image.amax(voxels, keepdim=True)


def _change_intensities(
    image: Tensor, changes: Changes, *, index: int, generator: Generator
) -> Tensor:
    """The image after its changes; the one given is overwritten where that spares memory."""
    noise_std, blur_sigma = float(changes.noise_std[index]), float(changes.blur_sigma[index])
    brightness, contrast = float(changes.brightness[index]), float(changes.contrast[index])
    low_resolution = float(changes.low_resolution[index])
    gamma_inverted, gamma = float(changes.gamma_inverted[index]), float(changes.gamma[index])
    if noise_std:
        noise = torch.randn(image.shape, generator=generator).mul_(noise_std)
        image.add_(noise.to(image.device))
    if blur_sigma:
        image = blur(image, sigma=blur_sigma)
    if brightness != 1:
        image.mul_(brightness)
    if contrast != 1:
        change_contrast_in_place(image, factor=contrast)
    if low_resolution != 1:
        image = lower_resolution(image, factor=low_resolution)
    if gamma_inverted != 1:
        change_gamma_in_place(image.neg_(), gamma=gamma_inverted)
        image.neg_()
    if gamma != 1:
        change_gamma_in_place(image, gamma=gamma)
    return image
