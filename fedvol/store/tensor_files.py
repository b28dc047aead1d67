"""Tensors in safetensors files, written and read one tensor at a time in constant memory.

The format: 8 bytes with the header's length, a JSON header, then every tensor's bytes, little
endian. The library writes whole dictionaries only; its reader and ours read the same files.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, BinaryIO, Self, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from fedvol.config.base import Section
from fedvol.errors import BlobDamagedError, CheckpointError
from fedvol.files import atomic_path
from fedvol.types import Digest, State

_DTYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES: Mapping[str, str] = {dtype: name for name, dtype in _DTYPES.items()}
_Whole = Annotated[int, Field(ge=0)]


class _Field(Section):
    """How the header describes one tensor."""

    dtype: str
    shape: tuple[_Whole, ...]
    data_offsets: tuple[_Whole, _Whole]


_HEADER = TypeAdapter(dict[str, _Field | dict[str, str]])
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_MAX_HEADER_BYTES = 100_000_000
_MAX_AXES = 32
_MAX_TENSOR_BYTES = (1 << 63) - 1
"""More axes, or axes whose lengths multiply to more, no array can have, not even an empty one."""

_CHUNK_BYTES = 1 << 20


def write_state(
    path: Path,
    tensors: Iterable[tuple[str, NDArray[np.generic]]],
    *,
    metadata: Mapping[str, str],
) -> Digest:
    """Write named tensors to a safetensors file, whole or not at all.

    Tensors are taken one by one: the memory is that of the largest. Their bytes go to a spool
    file first, because the header that precedes them holds their shapes.

    Args:
        path: The file; replaced where it exists.
        tensors: Names and arrays, in the order in which they are stored.
        metadata: Further words in the header.

    Returns:
        SHA-256 of the file's content. The same tensors and words give the same bytes.

    Raises:
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    with atomic_path(path) as temporary, ExitStack() as stack:
        spool_path = temporary.with_name(f"{temporary.name}.spool")
        stack.callback(spool_path.unlink, missing_ok=True)
        with spool_path.open("w+b") as spool:
            header = _header(_spool(tensors, spool), metadata)
            spool.seek(0)
            with temporary.open("wb") as file:
                return _assemble(header, spool, file)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies in a file.

    Attributes:
        dtype: NumPy's name of its type, little endian.
        shape: Its axes.
        start: First byte after the header.
        stop: First byte behind it.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@final
class StateFile:
    """A safetensors file, read tensor by tensor. Use it in a `with` statement, or close it.

    Args:
        path: The file.

    Raises:
        BlobDamagedError: It is absent, or not a whole safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise BlobDamagedError(
                str(path), f"cannot be read ({error.strerror})", "Restore it, or resume the run."
            ) from error
        try:
            self._entries, self._metadata, self._data = _read_header(self._file, path)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its tensors, in the order in which they were written."""
        return tuple(self._entries)

    @property
    def metadata(self) -> Mapping[str, str]:
        """Further words in the header."""
        return dict(self._metadata)

    def entry(self, name: str) -> TensorEntry:
        """Type and shape of one tensor, without reading it.

        Raises:
            CheckpointError: There is no such tensor.
        """
        if name not in self._entries:
            raise CheckpointError(
                str(self._path),
                f"it holds no tensor {name}",
                "Use a checkpoint of this study's network.",
            )
        return self._entries[name]

    def read(self, name: str) -> NDArray[np.generic]:
        """One tensor, in memory of its own.

        Raises:
            CheckpointError: There is no such tensor.
            BlobDamagedError: The file ends too early.
        """
        entry = self.entry(name)
        array = np.empty(entry.shape, dtype=np.dtype(entry.dtype))
        self._file.seek(self._data + entry.start)
        if self._file.readinto(array.reshape(-1).view(np.uint8).data) != entry.stop - entry.start:
            raise _damaged(self._path, "it ends too early")
        return array

    def read_all(self) -> State:
        """Every tensor."""
        return {name: self.read(name) for name in self._entries}

    def require_metadata(self, expected: Mapping[str, str]) -> None:
        """Refuse a file of another plan, architecture or round.

        Raises:
            CheckpointError: A word is absent or differs.
        """
        for key, value in expected.items():
            found = self._metadata.get(key)
            if found != value:
                raise CheckpointError(
                    str(self._path),
                    f"its {key} is {found or 'not stated'} instead of {value}",
                    "Use a file of this run, or start a new one.",
                )


@final
class StateOnDisk(Mapping[str, NDArray[np.generic]]):
    """The tensors of a safetensors file as a state; each is read when it is asked for.

    Args:
        path: The file; it must stay where it is.

    Raises:
        BlobDamagedError: It is absent, or not a whole safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with StateFile(path) as file:
            self._names = dict.fromkeys(file.names)

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        if name not in self._names:
            raise KeyError(name)
        with StateFile(self._path) as file:
            return file.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _spool(
    tensors: Iterable[tuple[str, NDArray[np.generic]]], spool: BinaryIO
) -> dict[str, TensorEntry]:
    entries: dict[str, TensorEntry] = {}
    start = 0
    for name, array in tensors:
        if name in entries or name == "__metadata__":
            raise ValueError(f"tensor name {name!r} is taken")
        dtype = array.dtype.newbyteorder("<").str
        if dtype not in _NAMES:
            raise ValueError(f"tensor {name!r} has type {array.dtype}, which cannot be stored")
        data = np.ascontiguousarray(array, dtype=dtype).reshape(-1).view(np.uint8).data
        spool.write(data)
        stop = start + data.nbytes
        entries[name] = TensorEntry(dtype=dtype, shape=array.shape, start=start, stop=stop)
        start = stop
        del array, data
    return entries


def _header(entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> bytes:
    document: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    for name, entry in entries.items():
        document[name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [entry.start, entry.stop],
        }
    header = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    return _LENGTH.pack(len(header)) + header


def _assemble(header: bytes, spool: BinaryIO, file: BinaryIO) -> Digest:
    hasher = hashlib.sha256(header)
    file.write(header)
    while chunk := spool.read(_CHUNK_BYTES):
        hasher.update(chunk)
        file.write(chunk)
    return Digest(hasher.hexdigest())


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, TensorEntry], dict[str, str], int]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else size
    if length > min(_MAX_HEADER_BYTES, size - _LENGTH.size):
        raise _damaged(path, "its header is longer than the file or the limit")
    try:
        fields = _HEADER.validate_json(file.read(length))
    except ValidationError as error:
        raise _damaged(path, "its header is not that of a safetensors file") from error
    words = fields.pop("__metadata__", {})
    metadata = words if isinstance(words, dict) else {}
    entries = {name: _entry(path, name, field) for name, field in fields.items()}
    _require_gapless(path, entries, data_bytes=size - _LENGTH.size - length)
    return entries, metadata, _LENGTH.size + length


def _entry(path: Path, name: str, field: _Field | dict[str, str]) -> TensorEntry:
    if isinstance(field, _Field) and field.dtype in _DTYPES:
        start, stop = field.data_offsets
        dtype = np.dtype(_DTYPES[field.dtype])
        extent = math.prod(max(side, 1) for side in field.shape) * dtype.itemsize
        can_be = len(field.shape) <= _MAX_AXES and extent <= _MAX_TENSOR_BYTES
        if can_be and stop - start == math.prod(field.shape) * dtype.itemsize:
            return TensorEntry(
                dtype=_DTYPES[field.dtype], shape=field.shape, start=start, stop=stop
            )
    raise _damaged(path, f"its header describes tensor {name[:80]!r} in a way that cannot be")


def _require_gapless(path: Path, entries: Mapping[str, TensorEntry], *, data_bytes: int) -> None:
    """Every byte belongs to one tensor: nothing is hidden, shared or missing."""
    position = 0
    for entry in sorted(entries.values(), key=lambda one: (one.start, one.stop)):
        if entry.start != position:
            raise _damaged(path, "its tensors overlap or leave gaps")
        position = entry.stop
    if position != data_bytes:
        raise _damaged(path, "its size differs from what the header says")


def _damaged(path: Path, what: str) -> BlobDamagedError:
    return BlobDamagedError(str(path), what, "Restore it, or resume the run from its last round.")
