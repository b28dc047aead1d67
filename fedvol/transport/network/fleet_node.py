"""`FleetNode`: a site's end of the link. It only ever calls out, and listens on no port.

It asks the server for a message, has the site's app answer it, and brings the answer; beside that
it says every few seconds that it is there. It keeps nothing: where it or the link fails, it signs
on anew, the server sees that and asks again, and the site's agent answers what it has answered
before with the same contribution.

Nothing of a Flower app bundle is fetched or run, and a run with another bundle than fedvol's own
is not answered.
"""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

from fedvol.errors import (
    FedvolError,
    LinkDownError,
    MessageRefusedError,
    NotAdmittedError,
    RunEndedError,
    StrangeBundleError,
    TransportError,
)
from fedvol.files import write_atomic
from fedvol.telemetry import Observer
from fedvol.transport.engine import App, Message, set_task_identity
from fedvol.transport.flower import SITE_KEY, node_context
from fedvol.transport.network.bundle import thin_bundle
from fedvol.transport.network.fleet_connection import FleetConnection
from fedvol.types import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTiming:
    """How often a node speaks.

    Attributes:
        heartbeat_s: Seconds between two signs of life; the server counts a site as gone after
            twice that.
        poll_s: Seconds between two questions for a message.
        retry_s: Seconds before the first new try where the server is not there.
        max_retry_s: Longest wait between two tries.
    """

    heartbeat_s: float = 30.0
    poll_s: float = 1.0
    retry_s: float = 1.0
    max_retry_s: float = 20.0


class Departures(Protocol):
    """What leaves of a site's answers; `SiteDepartures` of a hospital."""

    def cleared(self, answer: Message, *, to: Message) -> Message:
        """What leaves of an answer at this moment: the answer, or what stands in its place."""
        ...

    def failure(self, to: Message, error: FedvolError) -> Message:
        """What leaves where a message has no answer."""
        ...


@final
class FleetNode:
    """Carries messages between the server and one site's app.

    Args:
        connection: To the server.
        site: Name of the site.
        state: File in which the node's number is kept, so that a process that was killed can be
            signed off by the next.
        timing: How often it speaks.
        observer: Hears when the link goes down and up.
        departures: What leaves; asked before every try, because the link may be down for long.
    """

    def __init__(
        self,
        connection: FleetConnection,
        *,
        site: SiteId,
        state: Path,
        timing: NodeTiming,
        observer: Observer,
        departures: Departures,
    ) -> None:
        self._connection = connection
        self._site = site
        self._state = state
        self._timing = timing
        self._observer = observer
        self._departures = departures
        self._known_runs: set[int] = set()

    def serve(self, app: App, *, stop: threading.Event) -> None:
        """Answer messages until told to stop; wait out whatever keeps the server away.

        Args:
            app: Answers one message at a time.
            stop: Ends it, after the message under way.
        """
        wait_s = self._timing.retry_s
        while not stop.is_set():
            try:
                with self._signed_on() as node:
                    wait_s = self._timing.retry_s
                    self._observer.event("link.up", site=self._site)
                    self._answer_messages(app, node=node, stop=stop)
            except (LinkDownError, MessageRefusedError, NotAdmittedError) as error:
                self._observer.event("link.down", site=self._site, code=error.code, what=error.what)
                stop.wait(wait_s)
                wait_s = min(2 * wait_s, self._timing.max_retry_s)

    @contextmanager
    def _signed_on(self) -> Generator[int, None, None]:
        """The node's number, while the server hears that it is there."""
        self._sign_off_earlier()
        node = self._connection.activate()
        write_atomic(self._state, str(node).encode())
        ended = threading.Event()
        heart = threading.Thread(target=self._beat, args=(node, ended), name="heartbeat")
        heart.start()
        try:
            yield node
        finally:
            ended.set()
            heart.join()
            self._sign_off(node)

    def _sign_off_earlier(self) -> None:
        """Sign off a process of this site that could not do it itself."""
        if not self._state.is_file():
            return
        with suppress(NotAdmittedError):  # it is signed off already, or was registered anew
            self._connection.deactivate(int(self._state.read_text()))
        self._state.unlink()

    def _sign_off(self, node: int) -> None:
        """Say goodbye; where that is not possible, the next process says it."""
        try:
            self._connection.deactivate(node)
        except TransportError:
            return
        self._state.unlink(missing_ok=True)

    def _beat(self, node: int, ended: threading.Event) -> None:
        wait_s = self._timing.heartbeat_s / 2
        while not ended.wait(wait_s):
            try:
                self._connection.heartbeat(node)
                wait_s = self._timing.heartbeat_s / 2
            except TransportError:
                # Whoever asks for messages meets the same and tells it.
                wait_s = min(self._timing.retry_s, wait_s)

    def _answer_messages(self, app: App, *, node: int, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                message = self._connection.pull(node)
                if message is None:
                    stop.wait(self._timing.poll_s)
                    continue
                began_s = time.monotonic()
                answer = self._answer(app, message, node=node)
                seconds = time.monotonic() - began_s
                self._bring(node, answer, to=message, seconds=seconds, stop=stop)
            except RunEndedError:
                continue  # nobody waits for it any more

    def _answer(self, app: App, message: Message, *, node: int) -> Message:
        run = message.metadata.run_id
        set_task_identity(run=run, node=node)
        if run not in self._known_runs:
            if self._connection.bundle_of(node, run) != thin_bundle().digest:
                strange = StrangeBundleError(
                    f"run {run} of the engine",
                    "its app bundle is not that of this version of fedvol",
                    "Bring server and site to one version of fedvol.",
                )
                self._observer.event("message.refused", site=self._site, code=strange.code)
                return self._departures.failure(message, strange)
            self._known_runs.add(run)
        return app(message, node_context(node, {SITE_KEY: self._site}, run=run))

    def _bring(
        self,
        node: int,
        answer: Message,
        *,
        to: Message,
        seconds: float,
        stop: threading.Event,
    ) -> None:
        """Bring an answer, however long the link is down; the coordinator's limit ends it.

        In the place of one that the server does not take, it hears that the site failed.
        """
        wait_s, is_failure = self._timing.retry_s, False
        while True:
            try:
                leaving = self._departures.cleared(answer, to=to)
                if leaving is not answer and not answer.has_error():
                    self._observer.event("answer.kept", site=self._site)
                answer = leaving
                self._connection.push(node, answer, seconds=seconds)
                return
            except MessageRefusedError as error:
                self._observer.event(
                    "answer.refused", site=self._site, code=error.code, what=error.what
                )
                if is_failure:
                    return
                answer, is_failure = self._departures.failure(to, error), True
            except LinkDownError as error:
                self._observer.event("link.down", site=self._site, code=error.code, what=error.what)
                if stop.wait(wait_s):
                    raise
                wait_s = min(2 * wait_s, self._timing.max_retry_s)
