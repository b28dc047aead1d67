"""People of a consortium at their keyboards, and the processes they start."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from network import free_port

from fedvol.store import RunStore, open_engine
from fedvol.types import RunId

SITES = ("hospital_1", "hospital_2")
WAIT_S = 240.0


class Typed:
    """Somebody at a keyboard, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str | Path, status: int = 0) -> dict[str, Any]:
        """Type a command; the JSON it prints.

        Args:
            words: What is typed behind `fedvol`.
            status: Exit status that is expected.
        """
        done = subprocess.run(
            self.command(*words, "--json"),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
        )
        assert done.returncode == status, f"{words}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    def command(self, *words: str | Path) -> list[str]:
        """What a shell would run."""
        return [sys.executable, "-m", "fedvol", *map(str, words)]

    @contextmanager
    def serving(self, *words: str | Path) -> Generator["Serving"]:
        """A command that serves; ended as an operating system ends it, and it ends well."""
        log = self.folder / f"{'-'.join(map(str, words))}.log".replace("/", "-")
        serving = Serving(command=self.command(*words), folder=self.folder, log=log)
        try:
            yield serving
            serving.process.send_signal(signal.SIGTERM)
            assert serving.process.wait(WAIT_S) == 0, log.read_text()
        finally:
            serving.process.kill()
            serving.process.wait()


class TypedHere(Typed):
    """The same commands in this process, where a test types very many: each start takes seconds."""

    def __init__(self, folder: Path, fedvol: Callable[..., Any]) -> None:
        super().__init__(folder)
        self._fedvol = fedvol

    def __call__(self, *words: str | Path, status: int = 0) -> dict[str, Any]:
        ended = self._fedvol(*words, "--json")
        assert ended.status == status, f"{words}: {ended.out}{ended.err}"
        return json.loads(ended.out.splitlines()[-1])


@dataclass(kw_only=True)
class Serving:
    """A command that serves, and may be killed."""

    command: Sequence[str]
    folder: Path
    log: Path

    def __post_init__(self) -> None:
        self.process = self._started()

    def kill(self) -> None:
        """Pull the plug, then start it again."""
        self.process.kill()
        self.process.wait()
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as told:
            return subprocess.Popen(
                self.command, cwd=self.folder, stdout=told, stderr=told, env={**os.environ}
            )


def until(found: Callable[[], Any], *, every_s: float = 2.0) -> Any:
    """Wait for something true, with a limit."""
    deadline_s = time.monotonic() + WAIT_S
    while not (value := found()):
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(every_s)
    return value


def is_open(port: int) -> bool:
    """Whether somebody listens on a port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def checkpoints(database: Path | str, run: str) -> Sequence[tuple[str, int, str]]:
    """Kind, round and digest of every weights that a run left."""
    with closing(RunStore(open_engine(database))) as store:
        found = store.checkpoints(RunId(run))
    return sorted((one.kind.value, one.round, one.digest) for one in found)


def join(typed: Typed, stack: ExitStack, *, private: int) -> dict[str, Serving]:
    """Make a consortium of both hospitals; what serves then, by `server` or the site's name."""
    typed("root", "init", "--out", "root", "--consortium", "Two Hospitals")
    address = f"127.0.0.1:{free_port()}"
    server = ("server", "init", "server", "--root", "root/root.json", "--address", address)
    typed(*server, "--private-port", str(private))
    serving = {"server": stack.enter_context(typed.serving("server", "start", "server"))}
    until(lambda: is_open(private))
    for site in SITES:
        line = typed("site-admin", "invite", site)["line"]
        typed("site", "init", "--folder", site, "--invitation", line)
        own = typed.folder / site / "site.toml"
        few = own.read_text().replace("= 10\n", "= 1\n")  # a test has few patients
        own.write_text(f"{few}\n[link]\nsync_s = 2.0\npoll_s = 0.5\n")
        typed("site", "enrol", "--folder", site)
        typed("data", "add", f"volumes/{site}", "--name=ct", "--channels=CT", "--folder", site)
    typed("site-admin", "roster", "draft", "draft.json")
    signing = ("root", "sign-roster", "draft.json", "--key", "root", "--out", "roster.json")
    typed(*signing, "--yes")
    typed("site-admin", "roster", "put", "roster.json")
    for site in SITES:
        serving[site] = stack.enter_context(typed.serving("site", "start", "--folder", site))
    return serving


def approve(typed: Typed, site: str, name: str) -> None:
    """A hospital agrees to a proposal, once it is put to it."""
    until(lambda: name in _proposals(typed, site))
    typed("consent", "approve", name, "--yes", "--folder", site)


def start(typed: Typed, name: str) -> None:
    """A run is started, once both sites agreed."""
    until(lambda: _all_agreed(typed("run", "show", name)))
    typed("run", "start", name)


def _proposals(typed: Typed, site: str) -> list[str]:
    """What was put to a site."""
    return [one["id"] for one in typed("consent", "list", "--folder", site)["proposals"]]


def _all_agreed(shown: dict[str, Any]) -> bool:
    """Whether every site of a run approved it."""
    return all(site["consent"] == "approve" for site in shown["sites"])
