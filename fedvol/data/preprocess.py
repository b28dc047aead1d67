"""From a volume as read to the array a network sees, done once per case."""

from typing import assert_never

import numpy as np
from jaxtyping import Float, Int32, Integer, UInt8
from numpy.typing import NDArray

from fedvol.config.data import (
    ClipZScore,
    Normalisation,
    Preprocessing,
    Spacing,
    Window,
    ZScore,
)
from fedvol.data.resample import grid_at_spacing, resample, resample_label
from fedvol.data.volume import PreparedCase, Volume
from fedvol.errors import (
    ConstantVolumeError,
    NonFiniteVoxelError,
    UnknownLabelError,
)
from fedvol.types import Triple

SPACING_TOLERANCE_MM = 1e-4
"""A case this close to the study's spacing keeps its voxels bit for bit."""

MAX_FOREGROUND_VOXELS = 10_000
"""Coordinates kept per class for foreground sampling, as in nnU-Net (Isensee et al. 2021)."""


def prepare(
    image: Volume,
    label: Integer[np.ndarray, "i j k"] | None,
    *,
    config: Preprocessing,
    lut: UInt8[np.ndarray, "256"],
    num_classes: int,
    where: str = "case",
) -> PreparedCase:
    """Normalise a case and bring it to the study's spacing.

    Intensities are normalised on the grid as read, then image and label are resampled only if the
    spacing differs: the image linearly (no overshoot; nnU-Net's cubic spline differs by little),
    the label per class linearly and then by the strongest class.

    Args:
        image: The volume as read.
        label: Native label values on the image's grid; None for an unlabelled case.
        config: The study's spacing and normalisation.
        lut: Class index of each native value 0..255 (`label_lut`); 255 marks a value the study
            does not name.
        num_classes: Classes, background included.
        where: The case's name in errors.

    Raises:
        ConstantVolumeError: A channel has no contrast to normalise.
        NonFiniteVoxelError: A channel holds NaN or infinite voxels.
        UnknownLabelError: The label holds a value the study does not name.
    """
    normalised = normalise(image.array, config=config.normalisation, where=where)
    classes = None
    if label is not None:
        classes = map_label(label, lut=lut, num_classes=num_classes, where=where)
    reference_shape = _shape(image.array.shape[1:])
    reference_affine = image.affine.astype(np.float64)
    shape, affine = reference_shape, reference_affine
    out, out_label = normalised, classes
    if not _is_at_spacing(image.spacing_mm, config.spacing_mm):
        shape, affine = grid_at_spacing(
            reference_shape, affine=reference_affine, spacing_mm=config.spacing_mm
        )
        out = resample(normalised, affine=reference_affine, shape_out=shape, affine_out=affine)
        if classes is not None:
            out_label = resample_label(
                classes, affine=reference_affine, shape_out=shape, affine_out=affine
            )
    return PreparedCase(
        image=out,
        label=out_label,
        affine=affine,
        reference_label=classes,
        reference_shape=reference_shape,
        reference_affine=reference_affine,
        foreground={} if out_label is None else foreground_voxels(out_label),
    )


def prepared_shape(shape: Triple, *, from_mm: Spacing, to_mm: Spacing) -> Triple:
    """Voxels along i, j, k of a case once it is prepared.

    Args:
        shape: Its voxels as read.
        from_mm: Its voxel size as read.
        to_mm: The study's.
    """
    if _is_at_spacing(from_mm, to_mm):
        return shape
    return grid_at_spacing(shape, affine=np.diag([*from_mm, 1.0]), spacing_mm=to_mm)[0]


def normalise(
    array: Float[np.ndarray, "channel i j k"], *, config: Normalisation, where: str = "case"
) -> Float[np.ndarray, "channel i j k"]:
    """Bring each channel to the study's intensity scale; the input is left as it is.

    Args:
        array: Intensities as stored.
        config: Which normalisation.
        where: The case's name in errors.

    Raises:
        ConstantVolumeError: A channel has no contrast left.
        NonFiniteVoxelError: A channel holds NaN or infinite voxels.
    """
    out = np.empty(array.shape, dtype=np.float32)
    for index, channel in enumerate(array):
        if not np.isfinite(channel).all():
            raise NonFiniteVoxelError(
                where, f"channel {index} holds NaN or infinite voxels", "Export the volume again."
            )
        match config:
            case ZScore():
                out[index] = _z_score(channel, config=config, where=f"{where}, channel {index}")
            case Window():
                out[index] = _window(channel, config=config, where=f"{where}, channel {index}")
            case ClipZScore():
                out[index] = _clip_z_score(
                    channel, config=config, where=f"{where}, channel {index}"
                )
            case _:
                assert_never(config)
    return out


def map_label(
    label: Integer[np.ndarray, "i j k"],
    *,
    lut: UInt8[np.ndarray, "256"],
    num_classes: int,
    where: str = "case",
) -> UInt8[np.ndarray, "i j k"]:
    """Turn native label values into class indices.

    Args:
        label: Native values.
        lut: Class index of each native value.
        num_classes: Classes, background included.
        where: The case's name in errors.

    Raises:
        UnknownLabelError: A value is outside 0..255 or has no class.
    """
    values = np.unique(label)
    known = (values >= 0) & (values <= 255)
    index = lut[values[known].astype(np.intp)]
    known[known] = (index < num_classes) & ((index > 0) | (values[known] == 0))
    if not known.all():
        unknown = ", ".join(str(int(value)) for value in values[~known][:8])
        raise UnknownLabelError(
            where,
            f"the label holds values the study does not name: {unknown}",
            "Name them under data.labels or correct the label.",
        )
    return lut[label.astype(np.uint8)]


def foreground_voxels(
    label: UInt8[np.ndarray, "i j k"],
) -> dict[int, Int32[np.ndarray, "voxel 3"]]:
    """Per class present, at most `MAX_FOREGROUND_VOXELS` of its voxels, evenly in array order."""
    out: dict[int, NDArray[np.int32]] = {}
    for index in np.unique(label[label > 0]):
        voxels = np.argwhere(label == index).astype(np.int32)
        if len(voxels) > MAX_FOREGROUND_VOXELS:
            kept = np.arange(MAX_FOREGROUND_VOXELS) * len(voxels) // MAX_FOREGROUND_VOXELS
            voxels = voxels[kept]
        out[int(index)] = voxels
    return out


def _z_score(channel: NDArray[np.floating], *, config: ZScore, where: str) -> NDArray[np.floating]:
    """(x - mean) / deviation; moments in float64, over the foreground if asked."""
    voxels = channel[channel > channel.min()] if config.foreground_only else channel
    if voxels.size == 0 or voxels.min() == voxels.max():
        raise ConstantVolumeError(
            where, "all voxels have one value", "Export the image again or leave the case out."
        )
    mean = voxels.mean(dtype=np.float64)
    deviation = voxels.std(dtype=np.float64)
    return (channel.astype(np.float64) - mean) / deviation


def _window(channel: NDArray[np.floating], *, config: Window, where: str) -> NDArray[np.floating]:
    """Clip to the window, then scale it to -1..1."""
    low, high = config.window_hu
    return (_clip(channel, low=low, high=high, where=where) - low) * (2 / (high - low)) - 1


def _clip_z_score(
    channel: NDArray[np.floating], *, config: ClipZScore, where: str
) -> NDArray[np.floating]:
    """Clip to the range, then (x - mean) / deviation with the study's own values."""
    low, high = config.clip_hu
    clipped = _clip(channel, low=low, high=high, where=where)
    return (clipped - config.mean_hu) / config.deviation_hu


def _clip(
    channel: NDArray[np.floating], *, low: float, high: float, where: str
) -> NDArray[np.floating]:
    clipped = np.clip(channel.astype(np.float64), low, high)
    if clipped.min() == clipped.max():
        raise ConstantVolumeError(
            where,
            f"no contrast inside {low:g}..{high:g} HU",
            "Check that the image is in Hounsfield units, or widen the window.",
        )
    return clipped


def _is_at_spacing(spacing_mm: Spacing, wanted_mm: Spacing) -> bool:
    return bool(np.abs(np.subtract(spacing_mm, wanted_mm)).max() <= SPACING_TOLERANCE_MM)


def _shape(sides: tuple[int, ...]) -> tuple[int, int, int]:
    i, j, k = sides
    return i, j, k
