"""Private keys on disk: for their owner alone, whole or not there, never replaced."""

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from killing import Killed

from fedvol.errors import KeyFileError
from fedvol.files import remove_unfinished
from fedvol.identity import IdentityKey, NodeKey
from fedvol.identity.key_files import write_key

PASSPHRASE = "correct horse battery"
Kind = type[IdentityKey] | type[NodeKey]
KINDS = pytest.mark.parametrize("kind", [IdentityKey, NodeKey])


@pytest.fixture
def open_mask() -> Generator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    return _private(tmp_path / "passphrase", PASSPHRASE)


def _private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


@KINDS
def test_what_was_made_is_read_again(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.pem"
    made = kind.create(path)
    assert kind.load(path).public == made.public
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert kind.create(tmp_path / "other.pem").public != made.public


@KINDS
@pytest.mark.usefixtures("open_mask")
def test_file_is_its_owners_from_the_first_byte(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    link = os.link

    def watched(source: Path, target: Path) -> None:
        modes.append(stat.S_IMODE(source.stat().st_mode))
        link(source, target)

    monkeypatch.setattr(os, "link", watched)
    kind.create(tmp_path / "key.pem")
    assert [*modes, stat.S_IMODE((tmp_path / "key.pem").stat().st_mode)] == [0o600, 0o600]
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


@KINDS
@pytest.mark.parametrize("bit", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
def test_file_that_is_open_to_others_is_refused(kind: Kind, bit: int, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    kind.create(path)
    path.chmod(0o600 | bit)
    with pytest.raises(KeyFileError, match=f"mode {0o600 | bit:04o}") as caught:
        kind.load(path)
    assert f"chmod 600 {path}" in str(caught.value)


@KINDS
def test_a_file_that_is_there_is_never_replaced(kind: Kind, tmp_path: Path) -> None:
    path = _private(tmp_path / "key.pem", "anything")
    with pytest.raises(KeyFileError, match="a file is there already"):
        kind.create(path)
    assert path.read_text() == "anything"
    (tmp_path / "link.pem").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileError):
        kind.create(tmp_path / "link.pem")
    assert not (tmp_path / "nowhere").exists()


@KINDS
@pytest.mark.parametrize("error", [Killed, OSError])
def test_a_crash_before_the_name_leaves_no_key(
    kind: Kind, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "link", dies)
    with pytest.raises(BaseException) as caught:
        kind.create(tmp_path / "key.pem")
    assert "FV-STORE" in str(caught.value) or caught.type is Killed
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_half_key(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from fedvol.identity import IdentityKey\n"
        "os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "IdentityKey.create(Path(sys.argv[1]))\n"
    )
    path = tmp_path / "key.pem"
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    made = IdentityKey.create(path)
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert IdentityKey.load(path).public == made.public


def test_with_a_passphrase_the_file_is_encrypted(tmp_path: Path, passphrase: Path) -> None:
    path = tmp_path / "key.pem"
    made = IdentityKey.create(path, passphrase_file=passphrase)
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert IdentityKey.load(path, passphrase_file=passphrase).public == made.public
    passphrase.write_text(f"{PASSPHRASE}\r\n")
    assert IdentityKey.load(path, passphrase_file=passphrase).public == made.public
    with pytest.raises(KeyFileError, match="the key is encrypted"):
        IdentityKey.load(path)
    passphrase.write_text(f"{PASSPHRASE} ")
    with pytest.raises(KeyFileError, match="the passphrase is another one"):
        IdentityKey.load(path, passphrase_file=passphrase)


def test_a_passphrase_that_is_not_needed_is_told(tmp_path: Path, passphrase: Path) -> None:
    IdentityKey.create(tmp_path / "key.pem")
    with pytest.raises(KeyFileError, match="the key is not encrypted"):
        IdentityKey.load(tmp_path / "key.pem", passphrase_file=passphrase)


@pytest.mark.parametrize(("text", "mode"), [("short words", 0o600), (PASSPHRASE, 0o644)])
def test_a_passphrase_is_long_and_its_owners(text: str, mode: int, tmp_path: Path) -> None:
    path = _private(tmp_path / "passphrase", text)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=re.escape(str(path))):
        IdentityKey.create(tmp_path / "key.pem", passphrase_file=path)
    assert not (tmp_path / "key.pem").exists()


def _garbage(path: Path) -> None:
    _private(path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def _cut(path: Path) -> None:
    IdentityKey.create(path)
    path.write_bytes(path.read_bytes()[:-40])


def _huge(path: Path) -> None:
    IdentityKey.create(path)
    path.write_bytes(path.read_bytes() + b"\n" * 70_000)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda _: None, "the file cannot be read"),
        (Path.mkdir, "the file cannot be read"),
        (lambda path: os.mkfifo(path, 0o600), "this is no key file"),
        (_huge, "this is no key file"),
        (_garbage, "this is no private key in PEM"),
        (_cut, "this is no private key in PEM"),
    ],
    ids=["absent", "folder", "pipe", "huge", "garbage", "cut"],
)
@KINDS
def test_what_is_no_key_file_is_refused(
    kind: Kind, make: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "key.pem"
    make(path)
    with pytest.raises(KeyFileError, match=f"{re.escape(str(path))}: {told}"):
        kind.load(path)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (IdentityKey, ec.generate_private_key(ec.SECP384R1())),
        (IdentityKey, rsa.generate_private_key(65537, 2048)),
        (NodeKey, IdentityKey.generate()._private),
        (NodeKey, ec.generate_private_key(ec.SECP256R1())),
    ],
)
def test_a_key_of_another_kind_is_refused(kind: Kind, other, tmp_path: Path) -> None:
    write_key(tmp_path / "key.pem", other)
    with pytest.raises(KeyFileError, match="not of the kind"):
        kind.load(tmp_path / "key.pem")


@KINDS
def test_a_key_shows_no_more_than_its_fingerprint(kind: Kind, tmp_path: Path) -> None:
    key = kind.create(tmp_path / "key.pem")
    assert repr(key) == f"{kind.__name__}({key.public.fingerprint})"
