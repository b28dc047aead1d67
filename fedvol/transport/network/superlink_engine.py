"""The door to those internals of Flower that the server embeds; see `transport.engine`.

That module was imported before this one, with the package, and turned telemetry off.
"""

from flwr.common.constant import (
    HEARTBEAT_DEFAULT_INTERVAL,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    Status,
)
from flwr.common.serde import fab_to_proto, run_from_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest, StopRunRequest
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.server.superlink.linkstate import LinkState
from flwr.server.superlink.linkstate.utils import create_message_error_unavailable_ins_message
from flwr.supercore.auth.typing import AccountInfo
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    pull_and_inflate_object_from_tree,
)
from flwr.supercore.interceptors import (
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.auth_plugin import ControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.grid import HttpGrid
from flwr.superlink.main import create_app
from flwr.superlink.routers.fleet import node_auth

ACQUIRE_TASK = "/flwr.proto.Runtime/AcquireTask"
"""The one call of Flower's runtime routes that is signed with the server's own secret."""

SERVER_APP_TASK = "flwr-serverapp"
"""Flower's name of the task that conducts a run."""

ACCESS_TOKEN = "flwr-oidc-access-token"  # noqa: S105  # the name of a field, not a secret
"""Under what name Flower hands a bearer token to the plugin that checks it."""


def tolerate_clocks(seconds: float) -> None:
    """Let nodes in whose clock is off by so much; Flower's own limit is 5 s for one that is ahead.

    Args:
        seconds: How far a node's clock may be ahead or behind.
    """
    node_auth.__dict__.update(SYSTEM_TIME_TOLERANCE=seconds, TIMESTAMP_TOLERANCE=0.0)


__all__ = [
    "ACCESS_TOKEN",
    "ACQUIRE_TASK",
    "HEARTBEAT_DEFAULT_INTERVAL",
    "NOOP_ACCOUNT_NAME",
    "NOOP_FLWR_AID",
    "SERVER_APP_TASK",
    "AccountInfo",
    "AcquireTaskRequest",
    "ControlAuthnPlugin",
    "ControlHttpClient",
    "Fab",
    "HeartbeatSender",
    "HttpGrid",
    "LinkState",
    "ListRunsRequest",
    "ObjectPullError",
    "ProtobufCall",
    "ProtobufRequestContext",
    "PullAppMessagesRequest",
    "PullTaskInputRequest",
    "PushTaskOutputRequest",
    "RuntimeHttpClient",
    "RuntimeVersionHttpInterceptor",
    "SendTaskHeartbeatRequest",
    "StartRunRequest",
    "Status",
    "StopRunRequest",
    "SuperExecAuthHttpInterceptor",
    "SuperLinkLifespan",
    "SuperLinkLifespanConfig",
    "create_app",
    "create_message_error_unavailable_ins_message",
    "fab_to_proto",
    "make_confirm_message_received_fn_protobuf",
    "make_pull_object_fn_protobuf",
    "pull_and_inflate_object_from_tree",
    "run_from_proto",
    "tolerate_clocks",
]
