"""A consortium as its people type it: root, operator, two hospitals; the same weights as alone.

Every step is a command of the guides (`docs/server.md`, `docs/hospital.md`), in their order. The
study leaves values to the sites' data, so that they agree twice: to be counted, and to the plan. In
the end the server is lost, and goes on from a backup that is older than what its sites remember;
its records move to a PostgreSQL, where there is one.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from network import free_port
from postgresql import PostgreSQL, binaries
from tiny import make_hospitals, tiny_text

from fedvol.plan import Plan
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
    def serving(self, *words: str | Path) -> Generator[None]:
        """A command that serves; ended as an operating system ends it, and it ends well."""
        log = self.folder / f"{'-'.join(map(str, words))}.log".replace("/", "-")
        with log.open("wb") as told:
            process = subprocess.Popen(
                self.command(*words), cwd=self.folder, stdout=told, stderr=told, env={**os.environ}
            )
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


def until(found: Callable[[], Any]) -> Any:
    """Wait for something true, with a limit."""
    deadline_s = time.monotonic() + WAIT_S
    while not (value := found()):
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(2.0)
    return value


def is_open(port: int) -> bool:
    """Whether somebody listens on a port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def checkpoints(database: Path | str, run: str) -> Sequence[tuple[str, int, str]]:
    with closing(RunStore(open_engine(database))) as store:
        found = store.checkpoints(RunId(run))
    return sorted((one.kind.value, one.round, one.digest) for one in found)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest) -> tuple[str, list[str | Path]]:
    """Where the records go when the server is restored, and what is typed for it."""
    if binaries() is None:
        return "", []
    server: PostgreSQL = request.getfixturevalue("postgresql")
    place = server.new_place()
    url = server.url(place, with_password=False)
    return server.url(place), ["--store", url, "--store-password", server.folder / "password"]


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    make_hospitals(tmp_path / "volumes", num_sites=2)
    text = tiny_text(
        rounds="rounds = 2",
        normalisation="",
        batch_size="",
        more="\n[federation]\nmin_sites = 2\n",
    )
    (tmp_path / "study.toml").write_text(text)
    return Typed(tmp_path)


def test_from_nothing_to_a_finished_run_and_back(
    typed: Typed, elsewhere: tuple[str, list[str | Path]]
) -> None:
    folder = typed.folder
    typed("root", "init", "--out", "root", "--consortium", "Two Hospitals")
    address = f"127.0.0.1:{free_port()}"
    server = ("server", "init", "server", "--root", "root/root.json", "--address", address)
    private = free_port()
    typed(*server, "--private-port", str(private))
    with ExitStack() as stack:
        stack.enter_context(typed.serving("server", "start", "server"))
        until(lambda: is_open(private))
        for site in SITES:
            line = typed("site-admin", "invite", site)["line"]
            typed("site", "init", "--folder", site, "--invitation", line)
            own = folder / site / "site.toml"
            few = own.read_text().replace("= 10\n", "= 1\n")  # a test has few patients
            own.write_text(f"{few}\n[link]\nsync_s = 2.0\npoll_s = 0.5\n")
            typed("site", "enrol", "--folder", site)
            typed("data", "add", f"volumes/{site}", "--name=ct", "--channels=CT", "--folder", site)
        typed("site-admin", "roster", "draft", "draft.json")
        signing = ("root", "sign-roster", "draft.json", "--key", "root", "--out", "roster.json")
        typed(*signing, "--yes")
        typed("site-admin", "roster", "put", "roster.json")
        for site in SITES:
            stack.enter_context(typed.serving("site", "start", "--folder", site))
        job = typed("run", "propose", "study.toml", "--name", "first")
        assert (job["run"], job["kind"]) == ("first-fingerprint", "fingerprint")
        typed("run", "start", "first-fingerprint", status=5)  # nobody agreed yet
        agree_and_start(typed, "first-fingerprint")
        await_end(typed, "first-fingerprint")
        shown = typed("run", "propose", "study.toml", "--name", "first")
        agree_and_start(typed, "first")
        until(lambda: typed("run", "show", "first")["round"])
        typed("run", "pause", "first")
        until(lambda: typed("run", "show", "first")["state"] == "paused")
        typed("server", "backup", "server", "server.backup")
        typed("run", "resume", "first")
        await_end(typed, "first")
        for site in SITES:
            receipts = until(lambda site=site: receipts_of(typed, site))
            assert [receipt["round"] for receipt in receipts] == [1, 2]
    server_log = folder / "server" / "audit.jsonl"
    for log in (server_log, *(folder / site / "audit.jsonl" for site in SITES)):
        assert typed("audit", "verify", log)["num_unsigned"] == 0  # signed as the process ended
    for site in SITES:
        compared = typed("audit", "compare", folder / site / "audit.jsonl", server_log)
        assert compared["contradictions"] == 0
        assert compared["contributions"]["not_taken"] == []
        # Health, two rounds, their validation, and the test; each asked and answered.
        assert compared["requests"]["num_both"] == compared["contributions"]["num_both"] >= 6
    assert kinds(server_log) >= {"operator", "roster", "request", "reply_taken", "receipt"}
    assert kinds(folder / SITES[0] / "audit.jsonl") >= {
        *("consent", "roster", "received", "policy"),
        *("fingerprint", "health", "update", "evaluation", "sent", "receipt"),
    }
    typed("simulate", "study.toml", "--data", "volumes", "--out", "alone", "--device", "cpu")
    planned = Plan.model_validate_json((folder / "alone" / "plan.json").read_bytes())
    assert shown["plan"] == planned.digest
    alone = checkpoints(folder / "alone" / "run.db", "federated")
    assert checkpoints(folder / "server" / "server.db", "first") == alone
    goes_on_from_its_backup(typed, elsewhere[1], private=private)
    assert checkpoints(elsewhere[0] or folder / "server" / "server.db", "first") == alone


def goes_on_from_its_backup(typed: Typed, words: list[str | Path], *, private: int) -> None:
    """The server's disk is lost; its sites remember more than the backup does."""
    shutil.rmtree(typed.folder / "server")
    restored = typed("server", "restore", "server.backup", "server", *words)
    assert (restored["runs"], restored["sites"]) == (1, 2)
    with ExitStack() as stack:
        stack.enter_context(typed.serving("server", "start", "server"))
        for site in SITES:
            stack.enter_context(typed.serving("site", "start", "--folder", site))
        until(lambda: is_open(private))
        assert typed("run", "show", "first")["state"] == "paused"
        typed("run", "resume", "first")
        until(lambda: typed("run", "show", "first")["state"] == "finished")
    assert "restored" in kinds(typed.folder / "server" / "audit.jsonl")


def kinds(log: Path) -> set[str]:
    """What an audit log tells of."""
    return {json.loads(line)["event"]["kind"] for line in log.read_text().splitlines()}


def agree_and_start(typed: Typed, name: str) -> None:
    """Both sites agree to a proposal, and it is started."""
    for site in SITES:
        until(lambda site=site: name in proposals(typed, site))
        typed("consent", "approve", name, "--yes", "--folder", site)
    until(lambda: all_agreed(typed("run", "show", name)))
    typed("run", "start", name)


def await_end(typed: Typed, name: str) -> None:
    """Watch a run until it is finished."""
    assert typed("run", "watch", name)["state"] == "finished"


def proposals(typed: Typed, site: str) -> list[str]:
    """What was put to a site."""
    return [one["id"] for one in typed("consent", "list", "--folder", site)["proposals"]]


def receipts_of(typed: Typed, site: str) -> list[dict[str, Any]]:
    """A site's receipts, once there is one for each round."""
    found = typed("site", "receipts", "--folder", site)["receipts"]
    return found if len(found) == 2 else []


def all_agreed(shown: dict[str, Any]) -> bool:
    """Whether every site of a run approved it."""
    return all(site["consent"] == "approve" for site in shown["sites"])
