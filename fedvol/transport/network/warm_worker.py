"""`WarmWorker`: the one process in which a site's app runs, kept warm and started again if it dies.

It holds the decoded cases and the GPU; the process around it only carries messages, so that the
link stays up while the worker computes, and whatever kills the worker costs minutes of training.
"""

import time
from collections.abc import Callable
from typing import final

from fedvol.errors import SiteFailedError
from fedvol.telemetry import Observer
from fedvol.transport.engine import Context, Message
from fedvol.transport.flower import failed_reply
from fedvol.transport.process_pool import OpenApp, ProcessPool

MAX_TRIES = 3
"""How often a message is given to a worker that dies of it."""


@final
class WarmWorker:
    """An app that runs in a process of its own.

    Args:
        open_app: Makes the app, in the worker.
        observer: Hears of events in the worker, and of its death.
        start: Starts the worker; for tests.
    """

    def __init__(
        self,
        open_app: OpenApp,
        *,
        observer: Observer,
        start: Callable[..., ProcessPool] = ProcessPool,
    ) -> None:
        self._open_app = open_app
        self._observer = observer
        self._start = start
        self._pool = self._started()

    @property
    def process(self) -> int:
        """Process id of the worker."""
        return self._pool.processes[0]

    def __call__(self, message: Message, context: Context) -> Message:
        """The app's answer; a worker that dies of a message gets it again, a few times.

        Not once the message's limit is over: then nobody waits for the answer.
        """
        began_s = time.monotonic()
        for num_tried in range(MAX_TRIES):
            if num_tried and time.monotonic() - began_s > message.metadata.ttl:
                break
            self._pool.begin(message, context=context)
            answer = self._pool.next_answer()
            if answer.reply is not None:
                return answer.reply
            self._observer.event("worker.lost", what=answer.what)
            self._pool.close()
            self._pool = self._started()
        return failed_reply(message, SiteFailedError.code)

    def close(self) -> None:
        """End the worker."""
        self._pool.close()

    def _started(self) -> ProcessPool:
        pool = self._start(self._open_app, num_workers=1, observer=self._observer)
        self._observer.event("worker.started", process=pool.processes[0])
        return pool
