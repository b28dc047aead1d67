"""Is a case what the study asks for? Geometry, voxels and labels, one named error each."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from fedvol.config.data import DataRequirement
from fedvol.data.foreground import foreground_intensities
from fedvol.data.geometry import GRID_TOLERANCE_MM, max_distance_mm, spacing_of
from fedvol.data.labels import UNNAMED, label_lut
from fedvol.data.layout import CaseEntry
from fedvol.data.nifti import LabelVolume, read_image, read_label
from fedvol.data.volume import Volume
from fedvol.errors import (
    ConstantVolumeError,
    DataError,
    EmptyLabelError,
    GridMismatchError,
    LabelValueError,
    NonFiniteVoxelError,
    UnknownLabelError,
    VolumeShapeError,
)
from fedvol.plan import Intensities, class_names
from fedvol.types import Digest

_WHOLE_TOLERANCE: Final = 1e-3
"""How far a label value may lie from a whole number: scaling rounds, interpolation is coarser."""

_MAX_LISTED: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCase:
    """A case that passed every check.

    Attributes:
        image: Every channel, RAS+.
        label: Label values as the site wrote them, (i, j, k); None for a case without a label.
        voxels: Class name to voxels of it; None without a label.
        intensities: Each channel in the labelled voxels; None without a label.
        content: SHA-256 of the image's shape and voxels.
    """

    image: Volume
    label: UInt8[np.ndarray, "i j k"] | None
    voxels: Mapping[str, int] | None
    intensities: tuple[Intensities, ...] | None
    content: Digest


def check_case(entry: CaseEntry, *, requirement: DataRequirement) -> CheckedCase:
    """Read a case and check it against what the study asks for.

    Raises:
        DataError: The first fault found, by its own class; names case and file.
    """
    image = _read_channels(entry, requirement=requirement)
    name = f"case {entry.site}/{entry.case}"
    for channel, values in zip(requirement.channels, image.array, strict=True):
        require_contrast(values, where=f"{name}, channel {channel}")
    label = voxels = None
    if entry.label is not None:
        with _naming(entry, entry.label):
            found = read_label(entry.label, max_voxels=requirement.max_voxels)
        _require_one_grid(
            name, "label", found.array, found.affine, like=image.array[0], affine=image.affine
        )
        with _naming(entry, entry.label):
            label = label_values(found, where=name)
            voxels = count_voxels(label, requirement=requirement, where=name)
    return CheckedCase(
        image=image,
        label=label,
        voxels=voxels,
        intensities=None if label is None else foreground_intensities(image.array, label),
        content=_content(image),
    )


def require_contrast(values: Float[np.ndarray, "i j k"], *, where: str) -> None:
    """Refuse a channel with voxels that are no numbers, or with one value everywhere.

    Raises:
        NonFiniteVoxelError: A voxel is NaN or infinite.
        ConstantVolumeError: All voxels are equal.
    """
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        num = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise NonFiniteVoxelError(
            where, f"{num} voxels are NaN or infinite", "Export the image again."
        )
    if low == high:
        raise ConstantVolumeError(
            where, f"all voxels are {low:g}", "Export the image again, or take the case out."
        )


def label_values(label: LabelVolume, *, where: str) -> UInt8[np.ndarray, "i j k"]:
    """Label values as bytes.

    Raises:
        NonFiniteVoxelError: A voxel is NaN or infinite.
        LabelValueError: A value is no whole number.
        UnknownLabelError: A value is negative or above 255.
    """
    values = label.array
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise NonFiniteVoxelError(
                where, "the label holds NaN or infinite voxels", "Export the label again."
            )
        whole = np.rint(values)
        broken = np.abs(values - whole) > _WHOLE_TOLERANCE
        if broken.any():
            raise LabelValueError(
                where,
                f"the label holds {_listed(values[broken])}",
                "Resample labels with nearest neighbour and store them as whole numbers.",
            )
        values = whole
    if values.min() < 0 or values.max() > 255:
        raise _unknown(where, values[(values < 0) | (values > 255)])
    return np.ascontiguousarray(values, dtype=np.uint8)


def count_voxels(
    label: UInt8[np.ndarray, "i j k"], *, requirement: DataRequirement, where: str
) -> dict[str, int]:
    """Voxels of each class.

    Raises:
        UnknownLabelError: A value is not the study's.
        EmptyLabelError: No class is there, and the study does not allow that.
    """
    counts = np.zeros(256, dtype=np.int64)
    for sheet in label:
        counts += np.bincount(sheet.ravel(), minlength=256)
    unnamed = np.flatnonzero((counts > 0) & (label_lut(requirement) == UNNAMED))
    if unnamed.size:
        raise _unknown(where, unnamed)
    voxels = {name: int(counts[requirement.labels[name]]) for name in class_names(requirement)}
    if not any(voxels.values()) and not requirement.allow_empty_labels:
        raise EmptyLabelError(
            where,
            "the label holds background only",
            "Annotate the case, take it out, or set data.allow_empty_labels in the study.",
        )
    return voxels


def _read_channels(entry: CaseEntry, *, requirement: DataRequirement) -> Volume:
    """One file with every channel, or one for each, on one grid."""
    num_channels = len(requirement.channels)
    if len(entry.images) not in (1, num_channels):
        raise VolumeShapeError(
            f"case {entry.site}/{entry.case}",
            f"has {len(entry.images)} image files, the study asks for {num_channels} channels",
            "Give one file for each channel, or one with all.",
        )
    per_file = num_channels // len(entry.images)
    volumes: list[Volume] = []
    for path in entry.images:
        with _naming(entry, path):
            volumes.append(
                read_image(path, max_voxels=requirement.max_voxels, num_channels=per_file)
            )
    first = volumes[0]
    for channel, other in zip(requirement.channels, volumes, strict=False):
        _require_one_grid(
            f"case {entry.site}/{entry.case}",
            f"channel {channel}",
            other.array[0],
            other.affine,
            like=first.array[0],
            affine=first.affine,
        )
    if len(volumes) == 1:
        return first
    return Volume(array=np.concatenate([v.array for v in volumes]), affine=first.affine)


def _require_one_grid(
    where: str,
    what: str,
    array: Shaped[np.ndarray, "i j k"],
    own: Float[np.ndarray, "4 4"],
    *,
    like: Shaped[np.ndarray, "x y z"],
    affine: Float[np.ndarray, "4 4"],
) -> None:
    fix = f"Resample the {what}, or take the case out of the case table."
    shape = (like.shape[0], like.shape[1], like.shape[2])
    spacing, other = _edges(own), _edges(affine)
    if not np.allclose(spacing_of(own), spacing_of(affine), atol=GRID_TOLERANCE_MM, rtol=0):
        raise GridMismatchError(
            where, f"{what} grid is {spacing} mm, image grid is {other} mm", fix
        )
    if array.shape != shape:
        sides, expected = "x".join(map(str, array.shape)), "x".join(map(str, shape))
        raise GridMismatchError(
            where, f"{what} grid is {sides} voxels, image grid is {expected} voxels", fix
        )
    distance = max_distance_mm(own, affine, shape=shape)
    if distance > GRID_TOLERANCE_MM:
        raise GridMismatchError(
            where, f"{what} grid lies up to {distance:.3f} mm from the image grid", fix
        )


@contextmanager
def _naming(entry: CaseEntry, path: Path) -> Iterator[None]:
    """Give an error the names of case and file instead of a path of this machine."""
    try:
        yield
    except DataError as error:
        where = f"case {entry.site}/{entry.case}, file {path.relative_to(entry.root)}"
        raise type(error)(where, error.what, error.fix) from error


def _unknown(where: str, values: Shaped[np.ndarray, "voxel"]) -> UnknownLabelError:
    return UnknownLabelError(
        where,
        f"the label holds {_listed(values)}, which the study does not name",
        "Name the value under data.labels, or correct the label.",
    )


def _listed(values: Shaped[np.ndarray, "voxel"]) -> str:
    distinct = np.unique(values)
    text = ", ".join(f"{value:g}" for value in distinct[:_MAX_LISTED])
    return (
        text if distinct.size <= _MAX_LISTED else f"{text} and {distinct.size - _MAX_LISTED} more"
    )


def _edges(affine: Float[np.ndarray, "4 4"]) -> str:
    return "x".join(_decimal(float(edge)) for edge in spacing_of(affine))


def _decimal(edge: float) -> str:
    text = f"{edge:.3f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def _content(image: Volume) -> Digest:
    hasher = hashlib.sha256(repr(image.array.shape).encode())
    hasher.update(np.ascontiguousarray(image.array, dtype="<f4").data)
    return Digest(hasher.hexdigest())
