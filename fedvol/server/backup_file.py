"""The file of a backup: a tar of plain files, and behind them a manifest with every digest.

A file without its manifest was cut off. Nothing is compressed: weights do not get smaller, and a
person with `tar` can look into it.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Final, Literal, cast

from pydantic import Field, ValidationError

from fedvol.config.base import Section
from fedvol.errors import BackupError
from fedvol.files import atomic_path, store_error
from fedvol.identity import Moment
from fedvol.types import Digest

MANIFEST: Final = "manifest.json"
RECORDS: Final = "records.jsonl"
"""The database, as `dump_records` gives it."""

_DigestText = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_CHUNK_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 64 << 20


class BackupEntry(Section):
    """One file."""

    digest: _DigestText
    """SHA-256 of its content."""
    size_bytes: Annotated[int, Field(ge=0)]
    """Its size."""


class BackupFacts(Section):
    """What a backup is of."""

    format: Literal[1] = 1
    """Version of this form."""
    software: str
    """Version of the fedvol that wrote it."""
    taken: Moment
    """The moment that it holds."""
    consortium: str
    """The consortium of the server."""
    identity: _DigestText
    """The server's public identity key, in hexadecimal."""
    log_records: Annotated[int, Field(ge=0)]
    """Lines of the audit log in it."""
    log_head: _DigestText
    """Hash of the last of them."""
    left_out: tuple[str, ...]
    """Files that `server.toml` names and that lie outside the folder: they are not in it."""


class BackupManifest(Section):
    """A backup's last file."""

    facts: BackupFacts
    """What it is of."""
    files: dict[str, BackupEntry]
    """Every other file in it."""


def write_backup(target: Path, files: Mapping[str, Path], *, facts: BackupFacts) -> Digest:
    """Write a backup, whole or not at all, for its owner's eyes alone.

    Args:
        target: The file; it is not there yet.
        files: Where the content of each file is; it does not change meanwhile.
        facts: What it is of.

    Returns:
        Digest of the manifest.

    Raises:
        DiskFullError: No space is left.
        StoreError: A file cannot be read, or the folder cannot be written.
    """
    entries: dict[str, BackupEntry] = {}
    with atomic_path(target) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            for name, path in sorted(files.items()):
                with path.open("rb") as content:
                    size = os.fstat(content.fileno()).st_size
                    hashing = _Hashing(content)
                    _add(tar, name, cast("IO[bytes]", hashing), size=size, facts=facts)
                entries[name] = BackupEntry(digest=hashing.digest, size_bytes=size)
            manifest = BackupManifest(facts=facts, files=entries).model_dump_json().encode()
            _add(tar, MANIFEST, io.BytesIO(manifest), size=len(manifest), facts=facts)
    return Digest(hashlib.sha256(manifest).hexdigest())


def read_backup(source: Path, *, into: Path) -> tuple[BackupManifest, Digest]:
    """Write a backup's files into a folder, and hold every one to its digest.

    Where this raises, what the folder holds is worth nothing.

    Args:
        source: The backup.
        into: An empty folder.

    Returns:
        The manifest, and its digest.

    Raises:
        BackupError: It is no backup, not whole, or a file is not what was backed up.
        DiskFullError: No space is left.
        StoreError: It cannot be read, or the folder cannot be written.
    """
    found: dict[str, BackupEntry] = {}
    manifest = b""
    try:
        with source.open("rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or manifest or not _is_plain(member.name):
                    raise _unusable(source, f"it holds {member.name!r}, which no backup does")
                if member.name == MANIFEST:
                    manifest = content.read(_MAX_MANIFEST_BYTES)
                else:
                    found[member.name] = _extract(content, into / member.name)
    except tarfile.TarError as error:
        raise _unusable(source, "it is no backup, or damaged") from error
    except OSError as error:
        raise store_error(source, error) from error
    if not manifest:
        raise _unusable(source, "it is not whole: its end is missing")
    try:
        read = BackupManifest.model_validate_json(manifest)
    except ValidationError as error:
        raise _unusable(source, "its manifest cannot be read by this version") from error
    wrong = sorted(
        name for name in {*found, *read.files} if found.get(name) != read.files.get(name)
    )
    if wrong:
        raise _unusable(source, f"not what was backed up: {', '.join(wrong[:5])}")
    return read, Digest(hashlib.sha256(manifest).hexdigest())


class _Hashing:
    """A file that is hashed as it is read: of one that grows, what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hasher = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of what was read."""
        return self._hasher.hexdigest()

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        chunk = self._file.read(size)
        self._hasher.update(chunk)
        return chunk


def _add(
    tar: tarfile.TarFile, name: str, content: IO[bytes], *, size: int, facts: BackupFacts
) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, int(facts.taken.timestamp())
    tar.addfile(info, content)


def _extract(content: IO[bytes], path: Path) -> BackupEntry:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    hasher, size = hashlib.sha256(), 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            hasher.update(chunk)
            size += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return BackupEntry(digest=hasher.hexdigest(), size_bytes=size)


def _is_plain(name: str) -> bool:
    """Whether a name stays in the folder it is written to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _unusable(source: Path, what: str) -> BackupError:
    return BackupError(str(source), what, "Nothing was restored; use another backup.")
