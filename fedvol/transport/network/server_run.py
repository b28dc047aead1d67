"""A Flower run, begun and conducted from the coordinator's process.

A run of ours outlives a run of Flower's: a coordinator that is started again begins a new one and
goes on where the record stands, so nothing of the engine's own state matters to it.

Nothing is tried again in secret: an engine that does not answer is told at once, and whoever
conducts the run begins a new one when the engine is back. Sites then answer what they answered
before from their outbox.
"""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from fedvol.errors import LinkDownError
from fedvol.transport.engine import Grid, Message, set_message_id, set_task_identity
from fedvol.transport.network.bundle import thin_bundle
from fedvol.transport.network.superlink import bearer
from fedvol.transport.network.superlink_engine import (
    ACQUIRE_TASK,
    SERVER_APP_TASK,
    AcquireTaskRequest,
    ControlHttpClient,
    Fab,
    HeartbeatSender,
    HttpGrid,
    ListRunsRequest,
    ObjectPullError,
    ProtobufCall,
    ProtobufRequestContext,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    RuntimeHttpClient,
    RuntimeVersionHttpInterceptor,
    SendTaskHeartbeatRequest,
    StartRunRequest,
    Status,
    StopRunRequest,
    SuperExecAuthHttpInterceptor,
    create_message_error_unavailable_ins_message,
    fab_to_proto,
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    pull_and_inflate_object_from_tree,
    run_from_proto,
)

_ACQUIRE_S = 30.0
_STEP_S = 0.2

_PIECES_S = 10.0
"""How long the pieces of an answer may follow its head, in seconds. The engine itself waits three
minutes for a site that was killed between them, and the coordinator for nobody else meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateAddress:
    """Where the coordinator reaches the engine.

    Attributes:
        port: Of the private listener, on the loopback address.
        secret: The SuperLink's secret.
    """

    port: int
    secret: bytes

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def server_run(private: PrivateAddress) -> Generator[Grid, None, None]:
    """Begin a Flower run, end those an earlier coordinator left, and give its grid.

    Only one coordinator conducts runs over an engine at a time.

    Args:
        private: Where the engine is.

    Raises:
        LinkDownError: The engine is not there, or gives no task.
    """
    control = ControlHttpClient.from_server_address(
        private.address, True, None, interceptors=[_Bearer(bearer(private.secret))]
    )
    with _as_link_down(private), control:
        for run_id in _unfinished(control):
            control.StopRun(StopRunRequest(run_id=run_id))
        bundle = thin_bundle()
        fab = fab_to_proto(Fab(bundle.digest, bundle.content, {}))
        run_id = int(control.StartRun(StartRunRequest(fab=fab)).run_id)
        token = _acquire(private)
        grid = _RunGrid(private.address, token=token)
    try:
        with _as_link_down(private):
            heartbeat = _begin(grid, run_id=run_id)
        try:
            yield grid
        finally:
            heartbeat.stop()
            _end(grid)
    finally:
        grid.close()


def _unfinished(control: ControlHttpClient) -> Sequence[int]:
    runs = control.ListRuns(ListRunsRequest()).run_dict
    return [run_id for run_id, run in runs.items() if run.status.status != Status.FINISHED]


def _acquire(private: PrivateAddress) -> str:
    """Claim the task of the run that was begun."""
    signer = SuperExecAuthHttpInterceptor(
        master_secret=private.secret, protected_methods=frozenset({ACQUIRE_TASK})
    )
    runtime = RuntimeHttpClient.from_server_address(
        private.address,
        True,
        None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), signer],
    )
    request = AcquireTaskRequest(supported_task_types=[SERVER_APP_TASK])
    deadline_s = time.monotonic() + _ACQUIRE_S
    with runtime:
        while True:
            if token := runtime.AcquireTask(request).token:
                return token
            if time.monotonic() > deadline_s:
                raise LinkDownError(
                    f"engine at {private.address}",
                    f"it gave no task within {_ACQUIRE_S:.0f} s",
                    "See whether another coordinator is running, and end it.",
                )
            time.sleep(_STEP_S)


def _begin(grid: "_RunGrid", *, run_id: int) -> HeartbeatSender:
    client = grid.runtime
    given = client.PullTaskInput(PullTaskInputRequest())
    if int(given.run.run_id) != run_id:
        raise LinkDownError(
            "engine", "it gave the task of another run", "End every other coordinator."
        )
    set_task_identity(task=int(given.task_id), run=run_id, node=int(given.context.node_id))
    grid.set_run(run_from_proto(given.run))
    heartbeat = HeartbeatSender(lambda: _beat(client))
    heartbeat.start()
    return heartbeat


def _beat(client: RuntimeHttpClient) -> bool:
    """Say that the run is being conducted; whether the engine heard it.

    Where it does not know the task any more, the next call of the grid says so. Flower's own way
    to say it is to interrupt the process.
    """
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.TransportError:
        return False
    except httpx.HTTPStatusError as error:
        return not error.response.is_server_error
    return True


def _end(grid: "_RunGrid") -> None:
    """Tell the engine that the run has ended; if it is gone, it will find out by itself."""
    try:
        grid.runtime.PushTaskOutput(PushTaskOutputRequest(sub_status="completed", details=""))
    except httpx.HTTPError:
        return


class _RunGrid(HttpGrid):
    """Flower's grid, with a way to begin and end its task, and without its endless waits."""

    def __init__(self, address: str, *, token: str) -> None:
        super().__init__(address, insecure=True, token=token)
        # Its client takes None for "do not try again".
        self._retry_invoker = None  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def runtime(self) -> RuntimeHttpClient:
        """What the grid itself calls the engine with."""
        return self._runtime_client

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """The answers that are there; a failure for one whose pieces did not follow.

        One call tells of all of them; the pieces of each come when the reader wants it.
        """
        client, run_id = self.runtime, self.run.run_id
        given = client.PullMessages(PullAppMessagesRequest(message_ids=message_ids))
        heads = zip(given.messages_list, given.message_object_trees, strict=True)
        for head, tree in heads:
            try:
                answer = pull_and_inflate_object_from_tree(
                    tree,
                    make_pull_object_fn_protobuf(client.PullObject, self.node, run_id),
                    make_confirm_message_received_fn_protobuf(
                        client.ConfirmMessageReceived, self.node, run_id
                    ),
                    return_type=Message,
                    max_time=_PIECES_S,
                )
            except ObjectPullError:
                answer = create_message_error_unavailable_ins_message(
                    head.metadata.reply_to_message_id, run_id
                )
            else:
                set_message_id(answer, tree.object_id)
            yield answer


class _Bearer:
    def __init__(self, token: str) -> None:
        self._token = token

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        context.request.headers["Authorization"] = f"Bearer {self._token}"
        return call_next(context)


@contextmanager
def _as_link_down(private: PrivateAddress) -> Generator[None, None, None]:
    try:
        yield
    except (httpx.HTTPError, ConnectionError) as error:
        raise LinkDownError(
            f"engine at {private.address}",
            f"it does not answer ({type(error).__name__})",
            "Start the server again; runs go on where they stopped.",
        ) from error
