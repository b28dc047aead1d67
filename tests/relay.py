"""A wire between a site and its server that a test can cut, and make slow."""

import select
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"
_LOOK_S = 0.1


@dataclass
class Relay:
    """TCP on loopback, passed on to a port; while it is cut no byte passes either way.

    Nobody hears of the cut: connections stay open, new ones get no answer, as when a cable is
    pulled. What was on its way arrives once the wire is mended, as TCP sends it again.

    Attributes:
        target: Port of the server.
        port: Where sites connect.
        up_bytes_per_s: How fast bytes go up; None: as fast as they can.
    """

    target: int
    port: int = 0
    up_bytes_per_s: float | None = None
    _whole: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    @contextmanager
    def listening(self) -> Generator["Relay"]:
        with socket.create_server((HOST, 0)) as door:
            self.port = door.getsockname()[1]
            door.settimeout(_LOOK_S)
            self.mend()
            thread = threading.Thread(target=self._accept, args=(door,))
            thread.start()
            try:
                yield self
            finally:
                self._ended.set()
                self.mend()
                thread.join()

    def _accept(self, door: socket.socket) -> None:
        threads: list[threading.Thread] = []
        while not self._ended.is_set():
            try:
                near, _ = door.accept()
            except TimeoutError:
                continue
            threads = [one for one in threads if one.is_alive()]
            threads.append(threading.Thread(target=self._serve, args=(near,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _serve(self, near: socket.socket) -> None:
        # A server that is not there, or either side that leaves, ends the connection.
        with near, suppress(OSError):
            self._whole.wait()
            with socket.create_connection((HOST, self.target)) as far:
                while not self._ended.is_set():
                    for ready in select.select([near, far], [], [], _LOOK_S)[0]:
                        self._whole.wait()
                        if not self._pass(ready, far if ready is near else near, up=ready is near):
                            return

    def _pass(self, source: socket.socket, target: socket.socket, *, up: bool) -> bool:
        rate = self.up_bytes_per_s if up else None
        data = source.recv(1 << 16 if rate is None else 1 << 10)
        self._whole.wait()
        target.sendall(data)
        if rate is not None:
            time.sleep(len(data) / rate)
        return bool(data)
