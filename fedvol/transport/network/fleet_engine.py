"""The door to those internals of Flower that a site embeds; see `transport.engine`.

That module was imported before this one, with the package, and turned telemetry off.
"""

import ssl

import httpx
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import (
    UnexpectedObjectContentError,
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    push_objects,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor


def go_through_proxy(
    client: FleetHttpClient, proxy: str, *, verify: ssl.SSLContext, timeout_s: float
) -> None:
    """Have Flower's client, which knows no proxy but that of the environment, use this one."""
    own: httpx.Client = client.__dict__["_client"]
    own.close()
    client.__dict__["_client"] = httpx.Client(
        verify=verify, timeout=timeout_s, follow_redirects=True, proxy=proxy
    )


__all__ = [
    "ActivateNodeRequest",
    "DeactivateNodeRequest",
    "FleetHttpClient",
    "GetRunRequest",
    "Node",
    "NodeAuthHttpInterceptor",
    "ObjectPullError",
    "ObjectPushError",
    "PullMessagesRequest",
    "PushMessagesRequest",
    "RuntimeVersionHttpInterceptor",
    "SendNodeHeartbeatRequest",
    "UnexpectedObjectContentError",
    "get_all_nested_objects",
    "get_object_tree",
    "go_through_proxy",
    "make_confirm_message_received_fn_protobuf",
    "make_pull_object_fn_protobuf",
    "make_push_object_fn_protobuf",
    "message_to_proto",
    "no_object_id_recompute",
    "pull_and_inflate_object_from_tree",
    "push_objects",
    "remove_content_from_message",
]
