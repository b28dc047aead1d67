"""Flower messages as byte strings for a pipe: one of everything small, then one a tensor."""

from collections.abc import Iterator, Sequence

from fedvol.transport.engine import (
    Array,
    ArrayRecord,
    Message,
    RecordDict,
    message_from_bytes,
    message_to_bytes,
)


def to_frames(message: Message) -> list[bytes]:
    """A message as byte strings; the tensors' are those it holds, not copies."""
    if message.has_error():
        return [message_to_bytes(message)]
    whole = message.content
    message.content = RecordDict(
        {
            name: _emptied(record) if isinstance(record, ArrayRecord) else record
            for name, record in whole.items()
        }
    )
    head = message_to_bytes(message)
    message.content = whole
    return [head, *(array.data for _, _, array in _arrays(whole))]


def from_frames(frames: Sequence[bytes]) -> Message:
    """The message that `to_frames` took apart."""
    message = message_from_bytes(frames[0])
    if message.has_error():
        return message
    places = list(_arrays(message.content))
    for (record, name, array), data in zip(places, frames[1:], strict=True):
        record[name] = _with_data(array, data)
    return message


def _arrays(content: RecordDict) -> Iterator[tuple[ArrayRecord, str, Array]]:
    for record in content.values():
        if isinstance(record, ArrayRecord):
            for name, array in record.items():
                yield record, name, array


def _emptied(record: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({name: _with_data(array, b"") for name, array in record.items()})


def _with_data(array: Array, data: bytes) -> Array:
    return Array(dtype=array.dtype, shape=tuple(array.shape), stype=array.stype, data=data)
