"""The parts of Flower 1.41 we stand on; these fail first when Flower changes."""

import copy
import inspect
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from fedvol.federation import Action
from fedvol.transport import FlowerLink, engine
from fedvol.transport.engine import set_message_id, set_task_identity
from fedvol.transport.network.public_gate import KEY_HEADER
from fedvol.types import SiteId


def test_version_is_the_one_this_was_written_for() -> None:
    assert version("flwr").startswith("1.41.")


def test_grid_has_the_methods_we_call_and_no_new_abstract_one() -> None:
    assert Grid.__abstractmethods__ == {
        "set_run",
        "run",
        "create_message",
        "get_node_ids",
        "push_messages",
        "pull_messages",
        "send_and_receive",
    }
    assert {"node_id", "name"} <= set(NodeInfo.DESCRIPTOR.fields_by_name)


def test_error_codes() -> None:
    assert engine.APP_FAILED_CODE == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert {
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
    } == engine.NODE_GONE_CODES


def test_header_by_which_a_node_shows_its_key() -> None:
    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

    assert FLEET_HTTP_PUBLIC_KEY_HEADER.encode() == KEY_HEADER


def test_error_reply_can_be_mapped_by_the_message_it_answers() -> None:
    set_task_identity(run=1, node=1)
    message = Message(RecordDict(), 100, Action.FINETUNE.value, ttl=5.0)
    set_message_id(message, "m1")
    reply = Message(Error(2, "text"), reply_to=message)
    assert reply.metadata.reply_to_message_id == "m1"
    assert reply.has_error()
    assert message.metadata.ttl == 5.0


def test_array_keeps_a_serialisation_of_our_own() -> None:
    record = ArrayRecord({"x": Array(dtype="float32", shape=(), stype="ours", data=b"1234")})
    copied = copy.deepcopy(RecordDict({"t": record, "c": ConfigRecord({"k": "v"})}))
    array = copied["t"]["x"]
    assert (array.stype, array.data, array.shape) == ("ours", b"1234", ())
    assert array.data is record["x"].data, "a copy must not double the tensors"


def test_tensors_and_header_survive_flower_own_serialisation() -> None:
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

    set_task_identity(run=1, node=1)
    data = bytes(range(256)) * 40_000
    record = ArrayRecord(
        {
            "b": Array(dtype="uint8", shape=(len(data),), stype="ours", data=data),
            "a": Array(dtype="uint8", shape=(0,), stype="ours", data=b""),
        }
    )
    content = RecordDict({"tensors": record, "fedvol": ConfigRecord({"json": "{}"})})
    message = Message(content, 100, Action.FINETUNE.value)
    contents = {key: one.deflate() for key, one in get_all_nested_objects(message).items()}
    found = inflate_object_from_contents(message.object_id, contents)
    assert isinstance(found, Message)
    assert list(found.content["tensors"]) == ["b", "a"]
    assert found.content["tensors"]["b"].data == data
    assert found.content["fedvol"]["json"] == "{}"


@pytest.mark.parametrize("action", list(Action))
def test_client_app_routes_each_action_by_its_message_type(action: Action) -> None:
    app = ClientApp()
    category, name = action.value.split(".")
    seen: list[str] = []

    @getattr(app, category)(name)
    def answer(message: Message, context: Context) -> Message:
        seen.append(message.metadata.message_type)
        return Message(RecordDict(), reply_to=message)

    set_task_identity(run=1, node=1)
    context = Context(run_id=1, node_id=100, node_config={}, state=RecordDict(), run_config={})
    app(Message(RecordDict(), 100, action.value), context)
    assert seen == [action.value]
    assert list(inspect.signature(answer).parameters) == ["message", "context"]


def test_nothing_calls_home_and_torch_stays_out() -> None:
    code = (
        "import fedvol.transport, os, sys\n"
        "assert os.environ['FLWR_TELEMETRY_ENABLED'] == '0'\n"
        "assert os.environ['FLWR_DISABLE_UPDATE_CHECK'] == '1'\n"
        "from flwr.supercore import telemetry\n"
        "assert telemetry.FLWR_TELEMETRY_ENABLED == '0'\n"
        "assert not {'torch', 'monai', 'ray'} & set(sys.modules)\n"
    )
    inherited = os.environ.items()  # what a shell would pass on
    environment = {key: value for key, value in inherited if not key.startswith("FLWR")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


class BrokenGrid(Grid):
    def set_run(self, run): ...

    @property
    def run(self): ...

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None): ...

    def get_node_ids(self):
        raise ConnectionError("http://10.0.0.1:8000")

    def push_messages(self, messages): ...

    def pull_messages(self, message_ids): ...

    def send_and_receive(self, messages, *, timeout=None): ...


def test_link_that_is_down_is_a_transport_error() -> None:
    from fedvol.errors import TransportError

    with pytest.raises(TransportError, match="ConnectionError") as caught:
        FlowerLink(BrokenGrid()).sites()
    assert "10.0.0.1" not in str(caught.value)
    with pytest.raises(TransportError):
        FlowerLink(BrokenGrid(), {SiteId("a"): 1}).sites()
