"""Random changes of training patches, for a whole batch, on any device.

Ranges are the study's, defaults those of the nnU-Net family (Isensee et al. 2021). Order: mirror,
rotation with zoom, noise, blur, brightness, contrast, low resolution, inverted gamma, gamma.
Everything random is drawn on the CPU, so devices differ by rounding only.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor
from torch.nn import functional

from fedvol.config.data import Augmentation
from fedvol.data.batch import Batch


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


def augment(batch: Batch, *, config: Augmentation, generator: Generator) -> Batch:
    """Change each sample of a batch by itself; the given tensors stay as they are.

    Args:
        batch: Patches.
        config: Ranges and probabilities.
        generator: On the CPU, wherever the batch is.
    """
    changes = draw_changes(len(batch.image), config=config, generator=generator)
    return apply_changes(batch, changes=changes, generator=generator)


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


def apply_changes(batch: Batch, *, changes: Changes, generator: Generator) -> Batch:
    """Apply drawn changes.

    Args:
        batch: Patches.
        changes: One row per sample.
        generator: On the CPU; gives the voxels of the noise.
    """
    images, labels = [], []
    for index in range(len(batch.image)):
        axes = [axis for axis in range(3) if changes.mirror[index, axis]]
        image = batch.image[index].flip([axis + 1 for axis in axes])
        label = batch.label[index].flip(axes)
        rotation_deg, zoom = changes.rotation_deg[index], float(changes.zoom[index])
        if zoom != 1 or rotation_deg.any():
            image, label = move(image, label, rotation_deg=rotation_deg, zoom=zoom)
        images.append(_change_intensities(image, changes, index=index, generator=generator))
        labels.append(label)
    return Batch(image=torch.stack(images), label=torch.stack(labels))


def move(
    image: Float[Tensor, "channel i j k"],
    label: Int64[Tensor, "i j k"],
    *,
    rotation_deg: Float[Tensor, "3"],
    zoom: float,
) -> tuple[Float[Tensor, "channel i j k"], Int64[Tensor, "i j k"]]:
    """Rotate and zoom about the centre, rigid in voxel units whatever the patch's sides.

    The image is read linearly, the label at the nearest voxel; beyond the patch both are 0.

    Args:
        image: Intensities.
        label: Class indices.
        rotation_deg: Right-handed angles about i, then j, then k.
        zoom: Above 1 magnifies.
    """
    # Output voxel p, counted from the centre, shows input voxel R^-1 p / zoom; affine_grid wants
    # that in units of half a side, and its axes in the order k, j, i.
    half = (torch.tensor(label.shape, dtype=torch.float64) - 1) / 2
    source = _rotation(rotation_deg).T / zoom * half[None, :] / half[:, None]
    theta = torch.cat([source.flip(0, 1), torch.zeros(3, 1, dtype=torch.float64)], dim=1)
    size = (1, 1, *label.shape)
    grid = functional.affine_grid(
        theta[None].to(image.device, torch.float32), list(size), align_corners=True
    )
    moved = functional.grid_sample(image[None], grid, mode="bilinear", align_corners=True)
    classes = functional.grid_sample(
        label[None, None].to(torch.float32), grid, mode="nearest", align_corners=True
    )
    return moved[0], classes[0, 0].to(label.dtype)


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
    out = image
    for axis in (1, 2, 3):
        side = out.shape[axis]
        # Shifted sums: on a CPU several times faster than a convolution with a thin kernel.
        index = torch.arange(-radius, side + radius, device=out.device).clamp(0, side - 1)
        padded = out.index_select(axis, index)
        out = padded.narrow(axis, 0, side) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            out.add_(padded.narrow(axis, shift, side), alpha=weight)
    return out


def change_gamma(
    image: Float[Tensor, "channel i j k"], *, gamma: float
) -> Float[Tensor, "channel i j k"]:
    """Raise intensities, scaled to 0..1 per channel, to a power; minimum and maximum stay.

    Args:
        image: Intensities.
        gamma: Exponent; positive.
    """
    low = image.amin((1, 2, 3), keepdim=True)
    extent = image.amax((1, 2, 3), keepdim=True) - low
    safe = torch.where(extent > 0, extent, torch.ones_like(extent))
    return ((image - low) / safe).pow(gamma) * extent + low


def change_contrast(
    image: Float[Tensor, "channel i j k"], *, factor: float
) -> Float[Tensor, "channel i j k"]:
    """Scale the distance from each channel's mean, kept inside the channel's range.

    Args:
        image: Intensities.
        factor: Above 1 raises the contrast.
    """
    low = image.amin((1, 2, 3), keepdim=True)
    high = image.amax((1, 2, 3), keepdim=True)
    mean = image.mean((1, 2, 3), keepdim=True)
    return torch.clamp((image - mean) * factor + mean, low, high)


def lower_resolution(
    image: Float[Tensor, "channel i j k"], *, factor: float
) -> Float[Tensor, "channel i j k"]:
    """Keep every n-th voxel only and fill in between linearly, as a coarser scanner would.

    Args:
        image: Intensities.
        factor: Share of the voxels kept per side.
    """
    sides = list(image.shape[1:])
    small = [max(1, round(side * factor)) for side in sides]
    coarse = functional.interpolate(image[None], size=small, mode="nearest-exact")
    return functional.interpolate(coarse, size=sides, mode="trilinear", align_corners=False)[0]


def _change_intensities(
    image: Tensor, changes: Changes, *, index: int, generator: Generator
) -> Tensor:
    noise_std, blur_sigma = float(changes.noise_std[index]), float(changes.blur_sigma[index])
    brightness, contrast = float(changes.brightness[index]), float(changes.contrast[index])
    low_resolution = float(changes.low_resolution[index])
    gamma_inverted, gamma = float(changes.gamma_inverted[index]), float(changes.gamma[index])
    if noise_std:
        noise = torch.randn(image.shape, generator=generator) * noise_std
        image = image + noise.to(image.device)
    if blur_sigma:
        image = blur(image, sigma=blur_sigma)
    if brightness != 1:
        image = image * brightness
    if contrast != 1:
        image = change_contrast(image, factor=contrast)
    if low_resolution != 1:
        image = lower_resolution(image, factor=low_resolution)
    if gamma_inverted != 1:
        image = -change_gamma(-image, gamma=gamma_inverted)
    if gamma != 1:
        image = change_gamma(image, gamma=gamma)
    return image


def _rotation(angles_deg: Tensor) -> Tensor:
    """Matrix that turns about i, then j, then k, right-handed, float64."""
    cos, sin = torch.cos(angles_deg.double().deg2rad()), torch.sin(angles_deg.double().deg2rad())
    out = torch.eye(3, dtype=torch.float64)
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3, dtype=torch.float64)
        turn[first, first] = turn[second, second] = cos[axis]
        turn[first, second], turn[second, first] = -sin[axis], sin[axis]
        out = turn @ out
    return out
