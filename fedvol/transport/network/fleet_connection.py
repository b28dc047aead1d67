"""`FleetConnection`: what a site says to Flower's server, one call at a time, without retrying."""

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import final

import httpx

from fedvol.errors import MessageRefusedError, RunEndedError, TransportError
from fedvol.identity import NodeKey
from fedvol.transport.engine import Message, set_message_id
from fedvol.transport.network.fleet_engine import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    FleetHttpClient,
    GetRunRequest,
    Node,
    NodeAuthHttpInterceptor,
    ObjectPullError,
    ObjectPushError,
    PullMessagesRequest,
    PushMessagesRequest,
    RuntimeVersionHttpInterceptor,
    SendNodeHeartbeatRequest,
    UnexpectedObjectContentError,
    get_all_nested_objects,
    get_object_tree,
    go_through_proxy,
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
    message_to_proto,
    no_object_id_recompute,
    pull_and_inflate_object_from_tree,
    push_objects,
    remove_content_from_message,
)
from fedvol.transport.network.server_away import link_down, not_admitted, translated

_REFUSED = frozenset({401, 412})
"""Status of a key that is not registered, or whose clock is wrong; and of a node that the server
does not let come in, because it is not registered or is counted as there already."""

_RUN_ENDED = 403
"""Status of whatever belongs to a run that is over."""

_NOT_TAKEN = frozenset({400, 411, 413, 422})
"""Status of what the server takes at no time."""

_PIECES_S = 10.0
"""How long the pieces of a message may follow its head, in seconds."""


@final
class FleetConnection:
    """One site's calls.

    Args:
        address: Host and port of the server.
        tls: Trusts the server's certificates and nobody else's.
        key: The node key, whose public half is registered.
        heartbeat_s: How often the site will say that it is there; the server counts it as gone
            after twice that. Flower takes 10 to 1800.
        proxy: URL of the proxy on the way, with its password if it wants one; None: none.
        timeout_s: Longest wait for one answer.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: ssl.SSLContext,
        key: NodeKey,
        heartbeat_s: float,
        proxy: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._where = f"server {address}"
        self._public = key.public.pem
        self._heartbeat_s = heartbeat_s
        self._client = FleetHttpClient(
            f"https://{address}",
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key.private, key.private.public_key()),
            ],
            verify=tls,
            timeout=timeout_s,
        )
        if proxy is not None:
            go_through_proxy(self._client, proxy, verify=tls, timeout_s=timeout_s)

    def activate(self) -> int:
        """Say that the site is there.

        Returns:
            Number of its node.

        Raises:
            NotAdmittedError: The key is not registered, or the server still counts on an earlier
                process of this site.
            LinkDownError: The server cannot be reached.
        """
        request = ActivateNodeRequest(public_key=self._public, heartbeat_interval=self._heartbeat_s)
        with self._translated():
            return int(self._client.ActivateNode(request).node_id)

    def deactivate(self, node: int) -> None:
        """Say that the site leaves now."""
        with self._translated():
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=node))

    def heartbeat(self, node: int) -> bool:
        """Say that the site is still there; whether the server knows it."""
        request = SendNodeHeartbeatRequest(
            node=Node(node_id=node), heartbeat_interval=self._heartbeat_s
        )
        with self._translated():
            return bool(self._client.SendNodeHeartbeat(request).success)

    def pull(self, node: int) -> Message | None:
        """The next message for the site, whole; None if there is none. It is given out once.

        Raises:
            RunEndedError: It belongs to a run that is over.
            NotAdmittedError: The site is not let in any more.
            LinkDownError: The server cannot be reached, or the message did not come whole.
        """
        sender = Node(node_id=node)
        with self._translated():
            given = self._client.PullMessages(PullMessagesRequest(node=sender))
            if not given.messages_list:
                return None
            run = int(given.messages_list[0].metadata.run_id)
            tree = given.message_object_trees[0]
            message = pull_and_inflate_object_from_tree(
                tree,
                make_pull_object_fn_protobuf(self._client.PullObject, sender, run),
                make_confirm_message_received_fn_protobuf(
                    self._client.ConfirmMessageReceived, sender, run
                ),
                return_type=Message,
                max_time=_PIECES_S,
            )
        set_message_id(message, tree.object_id)
        return message

    def bundle_of(self, node: int, run: int) -> str:
        """Digest of the app bundle that a run names; the bundle itself is never fetched."""
        with self._translated():
            given = self._client.GetRun(GetRunRequest(node=Node(node_id=node), run_id=run))
            return str(given.run.fab_hash)

    def push(self, node: int, answer: Message, *, seconds: float) -> None:
        """Bring an answer.

        Args:
            node: Number of the site's node.
            answer: Names the message it answers.
            seconds: How long it took.

        Raises:
            RunEndedError: Nobody waits for it any more.
            NotAdmittedError: The site is not let in any more.
            MessageRefusedError: The server will not take it, because it is too large.
            LinkDownError: The server cannot be reached; bring it again.
        """
        sender = Node(node_id=node)
        set_message_id(answer, answer.object_id)
        with no_object_id_recompute():
            tree = get_object_tree(answer)
            request = PushMessagesRequest(
                node=sender,
                messages_list=[message_to_proto(remove_content_from_message(answer))],
                message_object_trees=[tree],
                clientapp_runtime_list=[seconds],
            )
            with self._translated():
                taken = self._client.PushMessages(request)
                push_objects(
                    get_all_nested_objects(answer),
                    make_push_object_fn_protobuf(
                        self._client.PushObject, sender, answer.metadata.run_id, taken.session_id
                    ),
                    object_ids_to_push=set(taken.objects_to_push),
                )

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    @contextmanager
    def _translated(self) -> Generator[None, None, None]:
        with translated(self._where):
            try:
                yield
            except httpx.HTTPStatusError as error:
                raise self._by_status(error.response.status_code) from error
            except (ObjectPullError, ObjectPushError, UnexpectedObjectContentError) as error:
                raise link_down(self._where, "a message did not pass whole") from error
            except ValueError as error:  # so Flower says that bytes are no protobuf
                raise link_down(self._where, "what it answered is no message") from error

    def _by_status(self, status: int) -> TransportError:
        if status in _REFUSED:
            return not_admitted(self._where)
        if status == _RUN_ENDED:
            return RunEndedError(
                self._where, "the engine's run is over", "Nothing needs to be done."
            )
        if status in _NOT_TAKEN:
            return MessageRefusedError(
                self._where,
                f"it does not take a message ({status})",
                "The round goes on without this site; bring both to one version of fedvol.",
            )
        return link_down(self._where, f"it answered {status}")
