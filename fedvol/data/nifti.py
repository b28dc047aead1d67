"""NIfTI files from outside: the header is judged before any voxel is read, reading is bounded."""

import gzip
import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped
from nibabel.volumeutils import apply_read_scaling

from fedvol.data.geometry import affine_of, to_ras
from fedvol.data.volume import Volume
from fedvol.errors import (
    FedvolError,
    VolumeMissingError,
    VolumeShapeError,
    VolumeTooLargeError,
    VolumeUnreadableError,
)

MIN_SIDE: Final = 4
"""Fewest voxels along an axis of a volume."""

_MAX_EXTENSION_BYTES: Final = 16 << 20
_MAX_TRAILING_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 20
_CONVERT: Final = "Export or convert the volume again."


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelVolume:
    """A label volume as read: RAS+, values in the file's own type (scaled ones in float64).

    Attributes:
        array: Label values, not yet judged, (i, j, k).
        affine: Voxel index to millimetres, float64.
    """

    array: Shaped[np.ndarray, "i j k"]
    affine: Float[np.ndarray, "4 4"]


def read_image(path: Path, *, max_voxels: int, num_channels: int = 1) -> Volume:
    """Read an image, RAS+, channel first, float32.

    Args:
        path: `.nii` or `.nii.gz`; 3-D, or 4-D with the channels last.
        max_voxels: Largest number of voxels of one channel.
        num_channels: Channels the file must have.

    Raises:
        VolumeMissingError: There is no such file.
        VolumeUnreadableError: The file is broken or no NIfTI volume of real numbers.
        VolumeTooLargeError: The header claims more than `max_voxels`.
        VolumeShapeError: Wrong number of axes or channels, or an axis shorter than `MIN_SIDE`.
        GeometryError: The header's geometry cannot be.
    """
    array, affine = _read(path, max_voxels=max_voxels, num_channels=num_channels)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found as non-finite
        channels = np.ascontiguousarray(np.moveaxis(array, -1, 0), dtype=np.float32)
    return Volume(array=channels, affine=affine)


def read_label(path: Path, *, max_voxels: int) -> LabelVolume:
    """Read a label volume, RAS+, in its own type.

    Args:
        path: `.nii` or `.nii.gz`; 3-D, or 4-D with one channel.
        max_voxels: Largest number of voxels.

    Raises:
        VolumeMissingError: There is no such file.
        VolumeUnreadableError: The file is broken or no NIfTI volume of real numbers.
        VolumeTooLargeError: The header claims more than `max_voxels`.
        VolumeShapeError: Wrong number of axes, or an axis shorter than `MIN_SIDE`.
        GeometryError: The header's geometry cannot be.
    """
    array, affine = _read(path, max_voxels=max_voxels, num_channels=1)
    return LabelVolume(array=array[..., 0], affine=affine)


def _read(
    path: Path, *, max_voxels: int, num_channels: int
) -> tuple[Shaped[np.ndarray, "i j k channel"], Float[np.ndarray, "4 4"]]:
    where = str(path)
    with _one_refusal(where):
        _require_file(path)
        with _opened(path) as stream:
            header = _read_header(stream, where=where)
            shape = _require_shape(
                header, max_voxels=max_voxels, num_channels=num_channels, where=where
            )
            dtype = _require_type(header, where=where)
            slope, intercept = _require_scale(header, where=where)
            affine = affine_of(header, shape=shape[:3], where=where)
            _skip_to_voxels(stream, header=header, where=where)
            voxels = _read_voxels(stream, shape=shape, dtype=dtype, where=where)
            _read_to_end(stream, where=where)
        scaled = apply_read_scaling(voxels, slope, intercept)
        return to_ras(scaled, affine=affine)


@contextmanager
def _one_refusal(where: str) -> Iterator[None]:
    """Whatever goes wrong in foreign code becomes one named refusal."""
    try:
        yield
    except FedvolError:
        raise
    except MemoryError as error:
        raise VolumeTooLargeError(
            where, "does not fit into the memory a case may use", "Use a machine with more memory."
        ) from error
    except EOFError as error:
        raise VolumeUnreadableError(where, "ends before its data does", _CONVERT) from error
    except OSError as error:
        reason = error.strerror or str(error) or "cannot be read"
        raise VolumeUnreadableError(where, reason, "Check the file and its permissions.") from error
    except Exception as error:  # nibabel and zlib raise what they like
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise VolumeUnreadableError(where, f"cannot be read ({reason})", _CONVERT) from error


def _require_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise VolumeMissingError(
            str(path), "is not there", "Restore the file, or take the case out of the table."
        ) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise VolumeUnreadableError(str(path), f"is {kind}", "Put the volume itself there.")


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if is_gzip != (path.suffix == ".gz"):
            kind = "gzip-compressed" if is_gzip else "not gzip-compressed"
            raise VolumeUnreadableError(
                str(path), f"is {kind}, against its name", "Rename or convert the file."
            )
        if not is_gzip:
            yield file
            return
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            yield cast("IO[bytes]", stream)


def _read_header(stream: IO[bytes], *, where: str) -> nib.Nifti1Header:
    """The header as it is, unmended; NIfTI-1 or NIfTI-2, one file."""
    block = stream.read(348)
    sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")}
    if len(block) < 348 or not sizes & {348, 540}:
        raise VolumeUnreadableError(where, "does not begin with a NIfTI header", _CONVERT)
    kind, magic = nib.Nifti1Header, block[344:348]
    if 540 in sizes:
        kind, magic = nib.Nifti2Header, block[4:8]
        block += stream.read(540 - 348)
    if magic[:3] in (b"ni1", b"ni2"):
        raise VolumeUnreadableError(
            where, "is the header of a volume in two files", "Convert it to one .nii.gz file."
        )
    if magic[:3] not in (b"n+1", b"n+2"):
        raise VolumeUnreadableError(where, f"has the magic number {magic!r}", _CONVERT)
    return kind(block, check=False)


def _require_shape(
    header: nib.Nifti1Header, *, max_voxels: int, num_channels: int, where: str
) -> tuple[int, int, int, int]:
    dims = [int(side) for side in header["dim"]]
    num_axes = dims[0]
    sides = dims[1 : num_axes + 1]
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    text = "x".join(str(side) for side in sides)
    if not 3 <= len(sides) <= 4:
        raise VolumeShapeError(
            where,
            f"has {len(sides)} axes ({text})",
            "Give volumes with three axes, or four with the channels last.",
        )
    channels = sides[3] if len(sides) == 4 else 1
    i, j, k = sides[:3]
    if min(i, j, k) < MIN_SIDE:
        raise VolumeShapeError(
            where, f"has {text} voxels; each axis needs at least {MIN_SIDE}", "Give a 3-D volume."
        )
    if channels != num_channels:
        raise VolumeShapeError(
            where,
            f"has {channels} channels, expected {num_channels}",
            "Give the channels the study names, in its order.",
        )
    if i * j * k > max_voxels:
        raise VolumeTooLargeError(
            where,
            f"its header claims {text} voxels, more than {max_voxels}",
            "Check the file, or raise data.max_voxels in the study.",
        )
    return i, j, k, channels


def _require_type(header: nib.Nifti1Header, *, where: str) -> np.dtype:
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = "RGB" if dtype.names else dtype.name
        raise VolumeUnreadableError(
            where, f"its voxels are of type {name}", "Convert them to whole or real numbers."
        )
    return dtype


def _require_scale(header: nib.Nifti1Header, *, where: str) -> tuple[float | None, float | None]:
    """Slope and intercept; None where the header asks for no scaling (slope 0 or NaN)."""
    if np.isinf(header["scl_slope"]):
        raise VolumeUnreadableError(where, "its scale factor is infinite", _CONVERT)
    return header.get_slope_inter()


def _skip_to_voxels(stream: IO[bytes], *, header: nib.Nifti1Header, where: str) -> None:
    """Read over the header's extensions up to the first voxel."""
    size = int(header["sizeof_hdr"])
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or not size <= offset <= size + _MAX_EXTENSION_BYTES:
        raise VolumeUnreadableError(where, f"its voxels begin at byte {offset:g}", _CONVERT)
    remaining = int(offset) - size
    while remaining:
        piece = stream.read(min(remaining, _PIECE_BYTES))
        if not piece:
            raise EOFError
        remaining -= len(piece)


def _read_voxels(
    stream: IO[bytes], *, shape: tuple[int, ...], dtype: np.dtype, where: str
) -> Shaped[np.ndarray, "i j k channel"]:
    """Exactly the bytes the header promises; memory is touched only as they come."""
    buffer = np.empty(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    filled = 0
    while filled < len(buffer):
        piece = stream.read(min(_PIECE_BYTES, len(buffer) - filled))
        if not piece:
            raise VolumeUnreadableError(
                where, f"holds {filled} of {len(buffer)} bytes of voxels", _CONVERT
            )
        buffer[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        filled += len(piece)
    return buffer.view(dtype).reshape(shape, order="F")


def _read_to_end(stream: IO[bytes], *, where: str) -> None:
    """Reach the end, where gzip keeps its check sum; more than a little rest is refused."""
    rest = 0
    while piece := stream.read(_PIECE_BYTES):
        rest += len(piece)
        if rest > _MAX_TRAILING_BYTES:
            raise VolumeUnreadableError(where, "holds more than its header describes", _CONVERT)
