"""A PostgreSQL of the tests' own: made in a temporary folder, reached by a socket in it alone."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg

USER = "fedvol"
_DATABASE = "postgres"
_START_S = 60.0
# What a crash would lose is the tests' own.
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB")


@dataclass(kw_only=True)
class PostgreSQL:
    """A running server.

    Attributes:
        folder: Where its socket is, and `password`, a file with its user's password.
        password: The same.
    """

    folder: Path
    password: str
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def url(self, place: str, *, with_password: bool = True) -> str:
        """Address of a place for tables."""
        who = f"{USER}:{self.password}" if with_password else USER
        path = f"options=-csearch_path%3D{place}"
        return f"postgresql+psycopg://{who}@/{_DATABASE}?host={self.folder}&{path}"

    def new_place(self) -> str:
        """Make an empty schema, which takes less long than a database; its name."""
        name = f"test_{next(self._numbers)}"
        with self._connected() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return name

    def _connected(self) -> "psycopg.Connection":
        return psycopg.connect(
            host=str(self.folder),
            user=USER,
            password=self.password,
            dbname=_DATABASE,
            autocommit=True,
        )

    def await_ready(self, process: "subprocess.Popen[bytes]", *, log: Path) -> None:
        deadline_s = time.monotonic() + _START_S
        while True:
            assert process.poll() is None, log.read_text()
            try:
                self._connected().close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline_s, log.read_text()
                time.sleep(0.05)
            else:
                return


def binaries() -> Path | None:
    """Folder of PostgreSQL's programs, the newest there are; None where it is not installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def running(programs: Path) -> Generator[PostgreSQL]:
    """Start one, and end it."""
    # Not pytest's own folder: a socket's path has at most 107 letters.
    folder = Path(tempfile.mkdtemp(prefix="fedvol-postgresql-"))
    password = secrets.token_hex(16)
    (folder / "password").write_text(password)
    (folder / "password").chmod(0o600)
    owner = _owner()
    if owner is not None:
        for path in (folder, folder / "password"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    who = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid}
    log = folder / "log"
    initdb = [programs / "initdb", "--no-sync", "-D", folder / "data", "-U", USER, "-E", "UTF8"]
    initdb += ["--locale=C", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
    settings = [word for setting in (*_QUICK, "listen_addresses=") for word in ("-c", setting)]
    postgres = [programs / "postgres", "-D", folder / "data", "-k", folder, *settings]
    try:
        subprocess.run(initdb, cwd=folder, check=True, capture_output=True, extra_groups=[], **who)
        with log.open("wb") as told:
            process = subprocess.Popen(
                postgres, cwd=folder, stdout=told, stderr=told, extra_groups=[], **who
            )
        try:
            server = PostgreSQL(folder=folder, password=password)
            server.await_ready(process, log=log)
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # its immediate shutdown: nothing is kept
            process.wait(60)
    finally:
        shutil.rmtree(folder)


def _owner() -> pwd.struct_passwd | None:
    """Who runs it: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("there is nobody to run PostgreSQL as")
