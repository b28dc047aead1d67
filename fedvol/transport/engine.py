"""The one door to flwr 1.41: its public names, and the few internal ones we cannot do without.

Other files of `transport` import Flower from here, so that a new version is noticed in one place.
`tests/contracts/test_flower_surface.py` fails first when it changes.
"""

import os

# Flower reads both while it is imported or started, and takes them from nowhere else.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # noqa: TID251  # no usage data leaves a hospital
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"  # noqa: TID251  # nothing is asked of the internet

from flwr.app import (  # after the two switches above
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    RecordDict,
)
from flwr.clientapp import ClientApp  # the same
from flwr.proto.node_pb2 import NodeInfo  # the same
from flwr.serverapp import Grid, ServerApp  # the same
from flwr.supercore.run import Run  # the same
from flwr.supercore.task_identity import TaskIdentity  # the same

NODE_GONE_CODES = frozenset({3, 4, 5})
"""Flower's error codes for a message or node that is no longer there."""

APP_FAILED_CODE = 2
"""Flower's error code for an app that raised."""


def set_task_identity(*, run: int, node: int) -> None:
    """Say who sends messages made in this process; a started SuperExec does it by itself."""
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = run
    TaskIdentity.node_id = node


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message its name; a SuperLink does it by itself."""
    message.metadata.__dict__["_message_id"] = message_id


__all__ = [
    "APP_FAILED_CODE",
    "NODE_GONE_CODES",
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
    "ServerApp",
    "set_message_id",
    "set_task_identity",
]
