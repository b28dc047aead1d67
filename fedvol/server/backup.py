"""`take_backup`: everything that a server needs to go on, in one file, while it serves.

**Why it is one moment.** Weights are written before the record that names them, and removed after
the record that needs them no more, so a folder whose process was killed is always sound. A backup
is that folder: while every writer of records is held off, the records are pinned and each file of
weights gets a second name, which takes no time; both are read afterwards, as the server goes on.
The audit log is copied last. It may tell of a little more than the records, never of less.

Not in it: messages and weights under way, which are asked for again, and what the server makes anew
when it starts (`flower.db`, `exchange/`, `secret`, `calls.txt`).
"""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import fedvol
from fedvol.audit import AuditLog, BackupTaken, LogSummary, verify_log
from fedvol.audit.log_file import lines_between, opened_for_reading
from fedvol.config.server import CertificateFiles, ServerConfig
from fedvol.errors import UsageError
from fedvol.files import locked_folder, store_error
from fedvol.server.backup_file import RECORDS, BackupFacts, write_backup
from fedvol.server.server_folder import ServerFolder
from fedvol.server.server_state import ServerState
from fedvol.store import dump_records, open_engine
from fedvol.types import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupTold:
    """A backup that was written.

    Attributes:
        digest: Digest of its manifest.
        facts: What it is of.
        num_files: Files in it.
        size_bytes: Its size.
    """

    digest: Digest
    facts: BackupFacts
    num_files: int
    size_bytes: int


def _utc_now() -> datetime:
    return datetime.now(UTC)


def take_backup(
    folder: Path, target: Path, *, now: Callable[[], datetime] = _utc_now
) -> BackupTold:
    """Write a backup of a server, which may be serving meanwhile.

    Args:
        folder: The server's folder.
        target: New file outside it, for its owner's eyes alone: it holds the server's keys.
        now: The time, UTC.

    Raises:
        UsageError: Something is at the target already, or it lies in the folder.
        FolderLockedError: Another backup is being taken.
        AuditError: The audit log does not verify, or cannot be written.
        ConfigError: The server's folder cannot be used.
        StoreError: A file or the database cannot be read, or the target cannot be written.
    """
    _require_target(target, folder=folder)
    state = ServerState.open(folder)
    try:
        with locked_folder(state.folder.backing_up):
            copied = state.folder.backing_up / "copied"
            shutil.rmtree(copied, ignore_errors=True)  # of a backup that was killed
            try:
                digest, facts, num_files = _write(state, target, copied=copied, now=now)
            finally:
                shutil.rmtree(copied)
        with AuditLog(state.folder.audit, signer=state.key) as log:
            log.append(
                BackupTaken(backup=digest, records=facts.log_records, head=Digest(facts.log_head))
            )
    finally:
        state.close()
    return BackupTold(
        digest=digest, facts=facts, num_files=num_files, size_bytes=target.stat().st_size
    )


def _write(
    state: ServerState, target: Path, *, copied: Path, now: Callable[[], datetime]
) -> tuple[Digest, BackupFacts, int]:
    """Gather everything under second names in `copied`, then write it."""
    place, taken = state.folder, now()
    copied.mkdir(mode=0o700)
    blobs = place.folder / "blobs"
    engine = open_engine(place.store)
    try:
        with (copied / RECORDS).open("wb") as file:
            file.writelines(
                dump_records(engine, beside=lambda: _pin(blobs, under=copied / blobs.name))
            )
        log = _copy_log(place.audit, copied / place.audit.name)
    except OSError as error:
        raise store_error(copied, error) from error
    finally:
        engine.dispose()
    named, left_out = _named_files(place.folder, state.config)
    files = {str(path.relative_to(place.folder)): path for path in (*_own_files(place), *named)}
    files |= {str(path.relative_to(copied)): path for path in copied.rglob("*") if path.is_file()}
    facts = BackupFacts(
        software=fedvol.__version__,
        taken=taken,
        consortium=state.config.consortium,
        identity=state.key.public.hex,
        log_records=log.records,
        log_head=log.head,
        left_out=left_out,
    )
    return write_backup(target, files, facts=facts), facts, len(files)


def _require_target(target: Path, *, folder: Path) -> None:
    where = f"backup {target}"
    if target.exists():
        raise UsageError(where, "something is there already", "Name a new file.")
    if folder.resolve() in target.resolve().parents:
        raise UsageError(
            where, "it lies in the server's own folder", "Name a file elsewhere, best another disk."
        )


def _pin(blobs: Path, *, under: Path) -> None:
    """Give each file of weights a second name, so that it stays when the first is removed."""
    for path in sorted(blobs.glob("*/*.safetensors")):
        if path.name.startswith("."):
            continue  # half-written
        second = under / path.relative_to(blobs)
        second.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, second)
        except FileNotFoundError:
            continue  # removed just now: no record needs it
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK):
                raise
            shutil.copyfile(path, second)  # a file system without second names


def _copy_log(path: Path, copy: Path) -> LogSummary:
    """Copy the whole lines of the audit log; what a killed process left of one is not copied."""
    with copy.open("wb") as target:
        if path.exists():
            with opened_for_reading(path) as (file, size):
                target.writelines(
                    line for line in lines_between(file, 0, size) if line.endswith(b"\n")
                )
    return verify_log(copy)


def _own_files(place: ServerFolder) -> list[Path]:
    """What lies in every server's folder and is neither record nor weight nor under way."""
    kept = [place.config, place.root]
    for folder in (place.identity.parent, place.authority.parent):
        kept += sorted(path for path in folder.rglob("*") if path.is_file())
    kept += sorted(place.fingerprints.glob("[!.]*.json"))
    return kept if not place.events.exists() else [*kept, place.events]


def _named_files(folder: Path, config: ServerConfig) -> tuple[list[Path], tuple[str, ...]]:
    """Files that `server.toml` names: those in the folder, and the names of the others."""
    names = [] if config.store.password_file is None else [config.store.password_file]
    match config.certificate:
        case CertificateFiles(chain=chain, key=key, authority=authority):
            names += [chain, key, authority]
        case _:
            pass
    inside = [name for name in names if folder.resolve() in (folder / name).resolve().parents]
    return [folder / name for name in inside], tuple(sorted(set(names) - set(inside)))
