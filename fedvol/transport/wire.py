"""Requests and contributions as Flower records, and back with every doubt spelled out.

A message holds one `ConfigRecord` with one JSON text, and one `ArrayRecord` with the tensors as
raw little-endian bytes. Nothing is executed or unpickled, and no size is believed before the
bytes are there.
"""

import json
import math
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fedvol.federation import Reply, Request
from fedvol.privacy import Contribution
from fedvol.transport.engine import Array, ArrayRecord, ConfigRecord, RecordDict
from fedvol.transport.headers import (
    ReplyHeader,
    RequestHeader,
    malformed,
    reply_header,
    request_header,
)
from fedvol.types import State

RAW = "fedvol.raw"
"""How tensors are serialised: their bytes, C order, little endian."""

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 100_000
MAX_TENSOR_BYTES = 8 << 30
MAX_MESSAGE_BYTES = 16 << 30

_HEADER_RECORD = "fedvol"
_HEADER_KEY = "json"
_TENSOR_RECORD = "tensors"
_DTYPES = frozenset(
    {"float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"}
)
_HeaderT = TypeVar("_HeaderT", RequestHeader, ReplyHeader)


def encode_request(request: Request, *, tensors: ArrayRecord) -> RecordDict:
    """A request as records; `tensors` comes from `encode_state`, once for all sites."""
    return _records(request_header(request), tensors)


def decode_request(content: RecordDict) -> Request:
    """A request from records; tensors are taken out of them one by one.

    Raises:
        MessageError: It is malformed, or larger than the limits.
    """
    return replace(peek_request(content), state=decode_state(_tensors(content)))


def peek_request(content: RecordDict) -> Request:
    """A request from records, its tensors left where they are.

    Raises:
        MessageError: It is malformed.
    """
    return _header(content, RequestHeader).request({})


def encode_contribution(contribution: Contribution, *, request: Request) -> RecordDict:
    """An answer as records. Nothing but a `Contribution` is: it went through the site's gate."""
    return _records(reply_header(contribution, request=request), encode_state(contribution.tensors))


def decode_reply(content: RecordDict, *, request: Request, bytes_down: int) -> Reply:
    """An answer from records; it must be to `request`.

    Raises:
        MessageError: It is malformed, larger than the limits, or answers another question.
    """
    bytes_up = size_bytes(content)
    header = _header(content, ReplyHeader)
    # Asked first, so that nothing is decoded of an answer to something else.
    reply = header.reply({}, request=request, bytes_up=bytes_up, bytes_down=bytes_down)
    return replace(reply, tensors=decode_state(_tensors(content)))


def encode_state(state: State) -> ArrayRecord:
    """Tensors as a record."""
    return ArrayRecord({name: _encode(name, array) for name, array in state.items()})


def decode_state(record: ArrayRecord) -> State:
    """Tensors from a record, each in memory of its own; the record is emptied on the way.

    Raises:
        MessageError: A tensor's bytes do not fit its shape and type, or a limit is passed.
    """
    if len(record) > MAX_TENSORS:
        raise malformed(f"it holds more than {MAX_TENSORS} tensors")
    if sum(len(array.data) for array in record.values()) > MAX_MESSAGE_BYTES:
        raise malformed(f"its tensors hold more than {MAX_MESSAGE_BYTES} bytes")
    return {name: _decode(name, record.pop(name)) for name in tuple(record)}


def size_bytes(content: RecordDict) -> int:
    """Bytes of header and tensors, without Flower's own framing."""
    size = 0
    for record in content.values():
        if isinstance(record, ArrayRecord):
            size += sum(len(name) + len(array.data) for name, array in record.items())
        elif isinstance(record, ConfigRecord):
            size += sum(len(value) for value in record.values() if isinstance(value, str))
    return size


def with_reply_header(content: RecordDict, **changes: str) -> RecordDict:
    """A reply with parts of its header changed; for tests of what must not pass."""
    header = _header(content, ReplyHeader).model_copy(update=changes)
    return _records(header, _tensors(content))


def _records(header: RequestHeader | ReplyHeader, tensors: ArrayRecord) -> RecordDict:
    text = json.dumps(header.model_dump(mode="json"), allow_nan=False, separators=(",", ":"))
    return RecordDict({_HEADER_RECORD: ConfigRecord({_HEADER_KEY: text}), _TENSOR_RECORD: tensors})


def _header(content: RecordDict, kind: type[_HeaderT]) -> _HeaderT:
    if set(content) != {_HEADER_RECORD, _TENSOR_RECORD}:
        raise malformed("its records are named otherwise than agreed")
    record = content[_HEADER_RECORD]
    text = record.get(_HEADER_KEY) if isinstance(record, ConfigRecord) else None
    if not isinstance(text, str) or len(record) != 1:
        raise malformed("it has no JSON header")
    if len(text) > MAX_HEADER_BYTES:
        raise malformed(f"its header is longer than {MAX_HEADER_BYTES} bytes")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        # What the other side wrote is not repeated.
        raise malformed("its header does not follow the schema") from error


def _tensors(content: RecordDict) -> ArrayRecord:
    record = content[_TENSOR_RECORD]
    if not isinstance(record, ArrayRecord):
        raise malformed("its tensors are no array record")
    return record


def _encode(name: str, array: NDArray[np.generic]) -> Array:
    if array.dtype.name not in _DTYPES:
        raise ValueError(f"tensor {name!r} has type {array.dtype}, which cannot be sent")
    raw = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    return Array(dtype=array.dtype.name, shape=array.shape, stype=RAW, data=raw)


def _decode(name: str, array: Array) -> NDArray[np.generic]:
    shape = tuple(array.shape)
    if array.stype != RAW or array.dtype not in _DTYPES:
        raise malformed("a tensor is of an unknown kind")
    if any(type(side) is not int or side < 0 for side in shape) or len(name) > 1000:
        raise malformed("a tensor's name or shape cannot be")
    dtype = np.dtype(array.dtype).newbyteorder("<")
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes != len(array.data) or num_bytes > MAX_TENSOR_BYTES:
        raise malformed("a tensor's bytes do not fit its shape, or pass the limit")
    return np.frombuffer(array.data, dtype=dtype).reshape(shape).astype(array.dtype, copy=True)
