"""Private keys on disk: PKCS#8 in PEM, for their owner's eyes alone, written once and whole.

With a passphrase the file is encrypted: PBES2 with AES-256-CBC and PBKDF2-HMAC-SHA-256, the
strongest that every PKCS#8 reader knows. The passphrase lies in a file of its own, under the same
rule, so that it stands in no command line and no environment.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fedvol.errors import KeyFileError
from fedvol.files import write_new

_LIMIT_BYTES = 1 << 16
_MIN_PASSPHRASE = 12


def write_key(path: Path, key: PrivateKeyTypes, *, passphrase_file: Path | None = None) -> None:
    """Write a new private key with mode 0600; never over a file that is there.

    Args:
        path: Where.
        key: The key.
        passphrase_file: File whose content encrypts the key; absent: not encrypted.

    Raises:
        KeyFileError: A file is there already, or the passphrase cannot be used.
        StoreError: The folder cannot be written.
    """
    write_secret(path, key_pem(key, passphrase_file=passphrase_file))


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file with mode 0600; never over a file that is there.

    Raises:
        KeyFileError: A file is there already.
        StoreError: The folder cannot be written.
    """
    try:
        write_new(path, data)
    except FileExistsError as error:
        raise KeyFileError(
            str(path),
            "a file is there already, and keys are never replaced unasked",
            "Keep it, or name another place for the new key.",
        ) from error


def key_pem(key: PrivateKeyTypes, *, passphrase_file: Path | None = None) -> bytes:
    """A private key as PKCS#8 in PEM.

    Raises:
        KeyFileError: The passphrase cannot be used.
    """
    encryption = (
        NoEncryption()
        if passphrase_file is None
        else BestAvailableEncryption(_passphrase(passphrase_file))
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def read_key(path: Path, *, passphrase_file: Path | None = None) -> PrivateKeyTypes:
    """Read a private key.

    Raises:
        KeyFileError: The file is absent, open to others, no private key, or under another
            passphrase.
    """
    data = read_secret(path)
    passphrase = None if passphrase_file is None else _passphrase(passphrase_file)
    try:
        return load_pem_private_key(data, passphrase)
    except TypeError as error:  # one of the two has a passphrase, the other has none
        encrypted = passphrase is None
        raise KeyFileError(
            str(path),
            "the key is encrypted" if encrypted else "the key is not encrypted",
            "Name the file with its passphrase." if encrypted else "Leave the passphrase out.",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            str(path),
            "this is no private key in PEM, or the passphrase is another one",
            "Check the passphrase; else restore the file from a backup.",
        ) from error


def read_secret(path: Path) -> bytes:
    """Read a file that only its owner may read.

    Raises:
        KeyFileError: It is absent, no plain file, open to group or others, or too large.
    """
    try:
        # Not to wait for ever on a pipe; permissions and content are of one and the same file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            _require_private(path, status)
            return file.read(_LIMIT_BYTES)
    except OSError as error:
        raise KeyFileError(
            str(path),
            f"the file cannot be read ({error.strerror})",
            "Check path and permissions; a lost key is restored from a backup.",
        ) from error


def wrong_kind(path: Path, *, wanted: str) -> KeyFileError:
    """The error of a key of another kind than is needed here."""
    return KeyFileError(
        str(path), f"the key is not of the kind {wanted}", "Name the file of the right key."
    )


def _require_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LIMIT_BYTES:
        raise KeyFileError(str(path), "this is no key file", "Name the file of the key.")
    if status.st_mode & 0o077:
        raise KeyFileError(
            str(path),
            f"others may open it (mode {stat.S_IMODE(status.st_mode):04o})",
            f"Ask who has read it; then: chmod 600 {path}",
        )


def _passphrase(path: Path) -> bytes:
    passphrase = read_secret(path).rstrip(b"\r\n")
    if len(passphrase) < _MIN_PASSPHRASE:
        raise KeyFileError(
            str(path),
            f"the passphrase is shorter than {_MIN_PASSPHRASE} bytes",
            "Write a longer one into the file.",
        )
    return passphrase
