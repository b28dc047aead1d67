"""A hospital's proxy: it opens ways through for whoever brings the right password."""

import base64
import select
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """HTTP CONNECT on loopback; `opened` lists where ways were opened to."""

    credentials: str = ""
    port: int = 0
    opened: list[str] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Generator["ConnectProxy"]:
        with socket.create_server(("127.0.0.1", 0)) as door:
            self.port = door.getsockname()[1]
            door.settimeout(0.1)
            ended = threading.Event()
            thread = threading.Thread(target=self._accept, args=(door, ended))
            thread.start()
            try:
                yield self
            finally:
                ended.set()
                thread.join()

    def _accept(self, door: socket.socket, ended: threading.Event) -> None:
        threads: list[threading.Thread] = []
        while not ended.is_set():
            try:
                near, _ = door.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=self._serve, args=(near, ended)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _serve(self, near: socket.socket, ended: threading.Event) -> None:
        with near:
            near.settimeout(5.0)
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(4096)
            target = head.split(b" ")[1].decode()
            wanted = base64.b64encode(self.credentials.encode())
            if self.credentials and b"Basic " + wanted not in head:
                near.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
            self.opened.append(target)
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as far:
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                with suppress(ConnectionError):  # one of the two has left
                    _relay(near, far, ended)


def _relay(near: socket.socket, far: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        for ready in select.select([near, far], [], [], 0.1)[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            (far if ready is near else near).sendall(data)
