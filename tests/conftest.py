"""Fixtures every test may use."""

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background so, and every process below would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_MEMORY = Path("/dev/shm")  # a file system in memory, where Linux has one
_ROOM_BYTES = 4 << 30
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
    # Every state and record is flushed to disk: on a real one the tests wait more than they work.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

if TYPE_CHECKING:
    from postgresql import PostgreSQL
    from tiny import Recorded

    from fedvol.client.cases import SiteCases
    from fedvol.types import SiteId

REPOSITORY = Path(__file__).resolve().parent.parent
BASELINES = "local,ensemble,pooled"


@pytest.fixture(scope="session")
def fedvol_data() -> Path:
    """Folder of real volumes, from `FEDVOL_DATA`; its tests skip where it is absent."""
    folder = Path(os.environ.get("FEDVOL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real volumes: {folder} is absent; set FEDVOL_DATA")
    return folder


@pytest.fixture(scope="module")
def compiler() -> Generator[None]:
    """A machine on which `torch.compile` works, and a process that has compiled nothing yet.

    Compiling takes seconds: the tests of a module share what was compiled.
    """
    import torch

    from fedvol.errors import CompileError
    from fedvol.training import require_compiler

    try:
        require_compiler(torch.device("cpu"))
    except CompileError as error:
        pytest.skip(str(error))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="session")
def postgresql() -> "Generator[PostgreSQL]":
    """A PostgreSQL of the tests' own."""
    from postgresql import binaries, running

    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with running(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """An empty database of each kind, as `open_engine` takes it."""
    if request.param == "sqlite":
        return tmp_path / "database.db"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.url(server.new_place())


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A tiny study that ran through the installed command, never interrupted; change nothing."""

    study: Path
    data: Path
    out: Path
    baselines: str = BASELINES


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generated hospitals with six cases each; change nothing."""
    from tiny import make_hospitals

    return make_hospitals(tmp_path_factory.mktemp("hospitals"))


@pytest.fixture(scope="session")
def tiny_cases(
    tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> "Mapping[SiteId, SiteCases]":
    """Their prepared cases, for federations inside the test's own process.

    The sites train on three, two and one case, so that nothing hides behind equal weights.
    """
    from tiny import prepare, tiny_study

    cases = prepare(tiny_data, folder=tmp_path_factory.mktemp("prepared"), study=tiny_study())
    return {
        site: replace(one, train=one.train[: 3 - number])
        for number, (site, one) in enumerate(sorted(cases.items()))
    }


@pytest.fixture(scope="session")
def tiny_recorded(
    tiny_cases: "Mapping[SiteId, SiteCases]", tmp_path_factory: pytest.TempPathFactory
) -> "Recorded":
    """A federation of them for two rounds, played once; its replies can be given again."""
    from tiny import make_federation, record, tiny_study

    study = tiny_study(rounds="rounds = 2")
    folder = tmp_path_factory.mktemp("recorded")
    return record(make_federation(study, cases=tiny_cases, folder=folder))


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The tiny study over them with every baseline, finished."""
    from tiny import fedvol_command, tiny_text

    folder = tmp_path_factory.mktemp("tiny")
    run = FinishedRun(study=folder / "tiny.toml", data=tiny_data, out=folder / "out")
    run.study.write_text(tiny_text())
    words = ["simulate", run.study, "--data", run.data, "--out", run.out, "--device", "cpu"]
    ended = subprocess.run(
        fedvol_command(*words, "--baselines", BASELINES),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return run


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        status: Its exit status.
        err: What it told people.
        out: What it told scripts.
    """

    status: int
    err: str
    out: str


Command = Callable[..., Ended]


@pytest.fixture
def fedvol(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in this process; a start of its own would take seconds each."""
    from fedvol.cli.main import main

    def run(*words: str | Path) -> Ended:
        capsys.readouterr()
        with _own_logging():
            status = main([str(word) for word in words])
        told = capsys.readouterr()
        return Ended(status=status, err=told.err, out=told.out)

    return run


@contextmanager
def _own_logging() -> Generator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
