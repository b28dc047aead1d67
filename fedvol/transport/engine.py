"""The one door to flwr 1.41: its public names, and the few internal ones we cannot do without.

Other files of `transport` import Flower from here, so that a new version is noticed in one place.
`tests/contracts/test_flower_surface.py` fails first when it changes.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

# Flower and Ray read these while imported or started, and take them from nowhere else.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # noqa: TID251  # no usage data leaves a hospital
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"  # noqa: TID251  # nothing is asked of the internet
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # noqa: TID251  # the same of Ray, where it is used
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # noqa: TID251  # or it warns, and hides GPUs

from flwr.app import (  # after the switches above
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    RecordDict,
)
from flwr.clientapp import ClientApp  # the same
from flwr.common.serde import message_from_proto, message_to_proto  # the same
from flwr.proto.message_pb2 import Message as ProtoMessage  # the same
from flwr.proto.node_pb2 import NodeInfo  # the same
from flwr.serverapp import Grid, ServerApp  # the same
from flwr.supercore.run import Run  # the same
from flwr.supercore.task_identity import TaskIdentity  # the same

App = Callable[[Message, Context], Message]
"""A ClientApp, or what can be called like one."""

if TYPE_CHECKING:
    from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
    from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
    from flwr.simulation.ray_transport.ray_actor import VirtualClientEngineActor

NODE_GONE_CODES = frozenset({3, 4, 5})
"""Flower's error codes for a message or node that is no longer there."""

APP_FAILED_CODE = 2
"""Flower's error code for an app that raised."""


def set_task_identity(*, run: int, node: int, task: int = 1) -> None:
    """Say who sends messages made in this process; a started SuperExec does it by itself."""
    TaskIdentity.task_id = task
    TaskIdentity.run_id = run
    TaskIdentity.node_id = node


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message its name; a SuperLink does it by itself."""
    message.metadata.__dict__["_message_id"] = message_id


def message_to_bytes(message: Message) -> bytes:
    """A message as protobuf; at most 2 GiB."""
    return message_to_proto(message).SerializeToString()


def message_from_bytes(data: bytes) -> Message:
    """A message from protobuf."""
    return message_from_proto(ProtoMessage.FromString(data))


def ray_backend(config: "BackendConfig") -> "RayBackend":
    """Flower's backend that runs apps in Ray actors; needs Ray, started before.

    Args:
        config: `client_resources`: CPUs and GPUs of one actor.
    """
    from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend

    return RayBackend(config)


__all__ = [
    "APP_FAILED_CODE",
    "NODE_GONE_CODES",
    "App",
    "Array",
    "ArrayRecord",
    "ClientApp",
    "ConfigRecord",
    "Context",
    "Error",
    "Grid",
    "Message",
    "NodeInfo",
    "RecordDict",
    "Run",
    "RayBackend",
    "ServerApp",
    "VirtualClientEngineActor",
    "message_from_bytes",
    "message_to_bytes",
    "ray_backend",
    "set_message_id",
    "set_task_identity",
]
