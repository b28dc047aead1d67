"""One site's images made extreme in intensity and sharpness, to see what a federation bears."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from fedvol.data.layout import CaseEntry, read_entries
from fedvol.data.nifti import read_image
from fedvol.data.nifti_writing import write_nifti
from fedvol.data.volume import Volume
from fedvol.errors import DataFolderError
from fedvol.plan import derive_seed, digest_json

_MAX_VOXELS = 512 * 512 * 1024
_CHECKSUMS = "SHA256SUMS"
_Change = Callable[[Volume, str], Float[np.ndarray, "channel i j k"]]
"""From a volume and its place in the data folder to other voxels."""


def shift_site(
    source: Path,
    target: Path,
    *,
    site: str,
    scale: float = 1.0,
    gamma: float = 1.0,
    blur_mm: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
    num_channels: int = 1,
) -> int:
    """Copy a data folder with one site's images changed; labels and tables stay byte for byte.

    Every image of the site is blurred, raised to the power `gamma` on its own range, given noise
    and multiplied by `scale`. A list of checksums beside the volumes is not copied: it would no
    longer be true.

    Args:
        source: A data folder.
        target: Where the copy goes; must not exist.
        site: The site whose images change.
        scale: Factor on intensities.
        gamma: Exponent on intensities scaled to 0..1.
        blur_mm: Deviation of a Gaussian blur.
        noise: Deviation of added Gaussian noise, as a share of the image's range.
        seed: Seed of the noise; same arguments, same bytes.
        num_channels: Channels of each case.

    Returns:
        How many image files were changed.

    Raises:
        DataFolderError: The source has no such site, or the target exists.
        DataError: A table or one of the site's images is broken.
        StoreError: The target cannot be written.
    """
    if target.exists():
        raise DataFolderError(str(target), "exists already", "Name a folder that does not exist.")
    entries = read_entries(source, num_channels=num_channels)
    chosen = [entry for name, found in entries.items() if name == site for entry in found]
    if not chosen:
        raise DataFolderError(
            str(source), f"has no site {site!r}", f"It has {', '.join(sorted(entries))}."
        )
    root = digest_json(["shift", seed])

    def change(volume: Volume, place: str) -> Float[np.ndarray, "channel i j k"]:
        rng = np.random.default_rng(derive_seed(root, place))
        return _shift(volume, scale=scale, gamma=gamma, blur_mm=blur_mm, noise=noise, rng=rng)

    # Beside the target, so that an interrupted copy is never taken for a whole one.
    unfinished = target.with_name(f".{target.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _copy(source, unfinished)
        num_changed = 0
        for entry in chosen:
            num_changed += _rewrite(entry, source, unfinished, num_channels, change)
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return num_changed


def _rewrite(
    entry: CaseEntry, source: Path, target: Path, num_channels: int, change: _Change
) -> int:
    """Write a case's images changed into the copy; returns how many there were."""
    channels = num_channels if len(entry.images) == 1 else 1
    images = [image for image in entry.images if image.is_file()]
    for image in images:
        place = image.resolve().relative_to(source.resolve())
        volume = read_image(image, max_voxels=_MAX_VOXELS, num_channels=channels)
        write_nifti(target / place, change(volume, place.as_posix()), affine=volume.affine)
    return len(images)


def _copy(source: Path, target: Path) -> None:
    """Copy content without permissions: a source is often read-only."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name != _CHECKSUMS:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _shift(
    volume: Volume,
    *,
    scale: float,
    gamma: float,
    blur_mm: float,
    noise: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "channel i j k"]:
    sigma = [blur_mm / edge for edge in volume.spacing_mm]
    out = np.empty(volume.array.shape, dtype=np.float32)
    for index, channel in enumerate(volume.array.astype(np.float64)):
        blurred = ndimage.gaussian_filter(channel, sigma, mode="nearest") if blur_mm else channel
        low, extent = blurred.min(), np.ptp(blurred) or 1.0
        curved = ((blurred - low) / extent) ** gamma
        noisy = curved + rng.normal(scale=noise, size=channel.shape)
        out[index] = (noisy * extent + low) * scale
    return out
