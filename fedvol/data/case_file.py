"""The format of one case file: sections of compressed voxels behind a checked header.

`magic | header size | header SHA-256 | header (JSON) | sections`. Each section is one blosc2
array. The header holds the length and the SHA-256 of all sections, so a file cut short is found at
its opening and any other damage before a voxel is used.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import blosc2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fedvol.config.base import Section
from fedvol.errors import CaseStoreError
from fedvol.files import atomic_path
from fedvol.types import CaseId, Triple

Row = tuple[float, float, float, float]
Rows = tuple[Row, Row, Row, Row]

_MAGIC = b"fedvolC1"
_HASH_BYTES = 32
_PREFIX_BYTES = len(_MAGIC) + 8 + _HASH_BYTES
_MAX_HEADER_BYTES = 1 << 20
_READ_BYTES = 1 << 20
_LEVELS = 65534  # int16 from -32767 to 32767
_CHUNK_SIDE = 64
_BLOCK_SIDE = 32
_BAD_PAYLOAD = "its voxels are cut short or damaged"


class Place(Section):
    """Where a section lies."""

    name: str
    """What it holds."""
    offset: int
    """First byte, counted from the end of the header."""
    size_bytes: int
    """Its length."""


class Description(Section):
    """What a case file says of its case."""

    case: str
    """Name of the case."""
    key: str
    """Digest of what the content depends on."""
    shape: Triple
    """Voxels of the prepared grid."""
    scale: tuple[float, ...]
    """Per channel: intensity of one int16 level."""
    offset: tuple[float, ...]
    """Per channel: intensity of level 0."""
    affine: Rows
    """Prepared grid's voxel index to millimetres."""
    reference_shape: Triple
    """Voxels of the grid as read."""
    reference_affine: Rows
    """Affine of the grid as read."""
    reference_is_label: bool
    """Whether the reference label equals the label and is not kept twice."""


class Header(Section):
    """Front of a case file."""

    version: Literal[1] = 1
    """Version of this format."""
    description: Description
    """The case."""
    places: tuple[Place, ...]
    """Sections in the file's order."""
    payload_bytes: int
    """Length of all sections."""
    payload_sha256: str
    """Digest of all sections, one after the other."""


def write_case_file(
    path: Path, *, description: Description, sections: Mapping[str, NDArray[Any]]
) -> None:
    """Write a case file whole or not at all.

    Raises:
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    frames = {name: _compress(array) for name, array in sections.items()}
    places: list[Place] = []
    position = 0
    for name, frame in frames.items():
        places.append(Place(name=name, offset=position, size_bytes=len(frame)))
        position += len(frame)
    header = Header(
        description=description,
        places=tuple(places),
        payload_bytes=position,
        payload_sha256=_sha256(frames.values()).hex(),
    )
    text = header.model_dump_json().encode()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC + len(text).to_bytes(8, "little") + _sha256([text]) + text)
        for frame in frames.values():
            file.write(frame)


def read_header(path: Path, *, case: CaseId) -> tuple[Header, int]:
    """The header, and the byte where the sections start.

    Raises:
        CaseStoreError: The file is absent, damaged, of another version or of another case.
    """
    try:
        with path.open("rb") as file:
            prefix = file.read(_PREFIX_BYTES)
            size = int.from_bytes(prefix[len(_MAGIC) : len(_MAGIC) + 8], "little")
            text = file.read(min(size, _MAX_HEADER_BYTES))
    except FileNotFoundError as error:
        raise CaseStoreError(
            f"case {case}", "is not in the case store", "Prepare the data again."
        ) from error
    except OSError as error:
        raise damaged(case, "its file cannot be read") from error
    if not prefix.startswith(_MAGIC):
        raise damaged(case, "its file is of another version or no case file")
    if len(prefix) < _PREFIX_BYTES or _sha256([text]) != prefix[-_HASH_BYTES:]:
        raise damaged(case, "its header is cut short or damaged")
    try:
        header = Header.model_validate_json(text)
    except ValidationError as error:
        raise damaged(case, "its file is of another version") from error
    if header.description.case != case:
        raise damaged(case, "its file holds another case")
    return header, _PREFIX_BYTES + size


def check_length(path: Path, *, header: Header, start: int) -> None:
    """Compare the length of all sections with the header's; reads none of them.

    Raises:
        CaseStoreError: They differ.
    """
    case = CaseId(header.description.case)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise damaged(case, "its file cannot be read") from error
    if size != start + header.payload_bytes:
        raise damaged(case, _BAD_PAYLOAD)


def check_payload(path: Path, *, header: Header, start: int) -> None:
    """Compare all sections with the header's digest.

    Raises:
        CaseStoreError: They differ.
    """
    case = CaseId(header.description.case)
    hasher = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as file:
            file.seek(start)
            while piece := file.read(_READ_BYTES):
                hasher.update(piece)
                size += len(piece)
    except OSError as error:
        raise damaged(case, "its file cannot be read") from error
    if size != header.payload_bytes or hasher.hexdigest() != header.payload_sha256:
        raise damaged(case, _BAD_PAYLOAD)


def open_section(path: Path, *, place: Place, start: int, case: CaseId) -> blosc2.NDArray:
    """A section for slicing; each slice reads and decompresses only the blocks it touches.

    Raises:
        CaseStoreError: It cannot be read.
    """
    try:
        # Not memory-mapped: a mapping would hold one file open per case.
        array = blosc2.open(path, mode="r", offset=start + place.offset, dparams={"nthreads": 1})
    except (RuntimeError, OSError, ValueError) as error:
        raise damaged(case, f"its {place.name} cannot be read") from error
    if not isinstance(array, blosc2.NDArray):
        raise damaged(case, f"its {place.name} is no array")
    return array


def damaged(case: CaseId, what: str) -> CaseStoreError:
    """The error of a case file that cannot be used."""
    return CaseStoreError(f"case {case}", what, "Delete the case store and prepare the data again.")


def quantise(
    image: NDArray[np.floating],
) -> tuple[NDArray[np.int16], tuple[float, ...], tuple[float, ...]]:
    """Levels, scale and offset per channel: value = level x scale + offset.

    Raises:
        ValueError: The image is not finite.
    """
    out = np.empty(image.shape, dtype=np.int16)
    scales: list[float] = []
    offsets: list[float] = []
    for index, channel in enumerate(image):
        low, high = float(channel.min()), float(channel.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("a prepared image must be finite")
        scale = (high - low) / _LEVELS or 1.0
        offset = (high + low) / 2
        levels = np.rint((channel.astype(np.float64) - offset) / scale)
        out[index] = np.clip(levels, -_LEVELS // 2, _LEVELS // 2)
        scales.append(scale)
        offsets.append(offset)
    return out, tuple(scales), tuple(offsets)


def _compress(array: NDArray[Any]) -> bytes:
    chunks, blocks = array.shape, array.shape
    if array.ndim >= 3:
        lead = (1,) * (array.ndim - 3)
        chunks = (*lead, *(min(side, _CHUNK_SIDE) for side in array.shape[-3:]))
        blocks = (*lead, *(min(side, _BLOCK_SIDE) for side in array.shape[-3:]))
    cparams = blosc2.CParams(codec=blosc2.Codec.LZ4, filters=[blosc2.Filter.BITSHUFFLE], nthreads=1)
    packed = blosc2.asarray(
        np.ascontiguousarray(array),  # pyright: ignore[reportArgumentType]  # its protocol is stale
        chunks=chunks,
        blocks=blocks,
        cparams=cparams,
    )
    assert isinstance(packed, blosc2.NDArray)
    return packed.to_cframe()


def _sha256(parts: Iterable[bytes]) -> bytes:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.digest()
