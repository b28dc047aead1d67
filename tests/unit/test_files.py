import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from fedvol.errors import DiskFullError, FolderLockedError, StoreError
from fedvol.files import atomic_path, digest_file, locked_folder, write_atomic, write_new

HOLDER = """
import sys, time
from pathlib import Path
from fedvol.files import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EIO, StoreError)],
)
def test_operating_system_errors_get_our_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[StoreError]
) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StoreError) as caught:
        write_atomic(path, b"new")
    monkeypatch.undo()
    assert type(caught.value) is error
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        write_atomic(tmp_path / "file" / "a.json", b"")
    with pytest.raises(StoreError), locked_folder(tmp_path / "file"):
        pass


@pytest.fixture
def open_mask() -> Generator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.mark.usefixtures("open_mask")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_permissions_are_as_asked(tmp_path: Path, mode: int) -> None:
    write_new(tmp_path / "a", b"a", mode=mode)
    write_atomic(tmp_path / "b", b"b", mode=mode)
    write_atomic(tmp_path / "c", b"old")
    write_atomic(tmp_path / "c", b"c", mode=mode)
    for path in tmp_path.iterdir():
        assert path.read_text() == path.name
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_takes_no_others_place(tmp_path: Path) -> None:
    write_new(tmp_path / "deep" / "a", b"one")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "deep" / "a", b"two")
    assert (tmp_path / "deep" / "a").read_bytes() == b"one"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_a_new_file_in_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "deep" / "a"):
        with pytest.raises(StoreError):
            write_new(path, b"")


def test_what_a_killed_process_of_our_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".a.{os.getpid()}.part").write_text("left")
    (tmp_path / f".b.{os.getpid()}.part").write_text("left")
    write_new(tmp_path / "a", b"a")
    write_atomic(tmp_path / "b", b"b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EPERM, "FV-STORE-000 .* has no hard links"),
        (errno.ENOSPC, "FV-STORE-004 .* no space left"),
        (errno.EACCES, "FV-STORE-000 .* Permission denied"),
    ],
)
def test_a_new_file_that_cannot_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fails)
    with pytest.raises(StoreError, match=told):
        write_new(tmp_path / "a", b"a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_digest_is_that_of_the_content(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    path = tmp_path / "a"
    path.write_bytes(content)
    assert digest_file(path) == hashlib.sha256(content).hexdigest()


def test_lock_is_held_against_another_process_until_it_dies(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(FolderLockedError, match=f"process {holder.pid} is working"),
            locked_folder(tmp_path / "out"),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with locked_folder(tmp_path / "out"):
        assert (tmp_path / "out" / ".lock").read_text() == str(os.getpid())


def test_lock_is_free_again_after_use_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked_folder(tmp_path):
        raise RuntimeError
    with locked_folder(tmp_path):
        pass
    with locked_folder(tmp_path):
        pass


def test_error_inside_a_locked_folder_keeps_its_class(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of its own"), locked_folder(tmp_path):
        raise OSError(errno.EIO, "of its own")
