"""Messages survive being taken apart, and their tensors are not copied for it."""

import pytest

from fedvol.transport import failed_reply
from fedvol.transport.engine import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    RecordDict,
    set_message_id,
    set_task_identity,
)
from fedvol.transport.frames import from_frames, to_frames


@pytest.fixture
def message() -> Message:
    set_task_identity(run=1, node=1)
    arrays = {
        "z": Array(dtype="float32", shape=(2, 3), stype="ours", data=bytes(range(24))),
        "a": Array(dtype="int64", shape=(), stype="ours", data=bytes(8)),
        "none": Array(dtype="uint8", shape=(0, 4), stype="ours", data=b""),
    }
    content = RecordDict({"t": ArrayRecord(arrays), "c": ConfigRecord({"json": '{"ä": 1}'})})
    message = Message(content, 100, "train.finetune", ttl=5.0)
    set_message_id(message, "m1")
    return message


def test_a_message_comes_back_as_it_was(message: Message) -> None:
    found = from_frames([bytes(frame) for frame in to_frames(message)])
    assert found.content == message.content
    assert list(found.content["t"]) == ["z", "a", "none"]
    assert vars(found.metadata) == vars(message.metadata)
    reply = from_frames(to_frames(Message(found.content, reply_to=found)))
    assert reply.metadata.reply_to_message_id == "m1"


def test_tensors_are_those_of_the_message(message: Message) -> None:
    data = message.content["t"]["z"].data  # type: ignore[union-attr]
    assert to_frames(message)[1] is data
    assert message.content["t"]["z"].data is data  # type: ignore[union-attr]


def test_an_error_comes_back_with_its_reason(message: Message) -> None:
    found = from_frames(to_frames(failed_reply(message, "why")))
    assert found.has_error()
    assert (found.error.code, found.error.reason) == (2, "why")
    assert found.metadata.reply_to_message_id == "m1"


def test_missing_and_surplus_tensors_are_refused(message: Message) -> None:
    frames = to_frames(message)
    for wrong in (frames[:-1], [*frames, b""]):
        with pytest.raises(ValueError, match="zip"):
            from_frames(wrong)
