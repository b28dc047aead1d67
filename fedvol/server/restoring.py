"""`restore_server`: fill a new folder with a backup, and say so in its audit log."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fedvol.audit import AuditLog, ServerRestored
from fedvol.config.server import StoreSettings
from fedvol.config.server_loading import load_server, parse_server
from fedvol.errors import BackupError, UsageError
from fedvol.federation import RunState
from fedvol.files import sync_tree, write_atomic, write_new
from fedvol.identity import write_moment
from fedvol.server.backup_file import RECORDS, BackupFacts, read_backup
from fedvol.server.restored_from import RestoredFrom
from fedvol.server.server_folder import ServerFolder
from fedvol.server.server_state import ServerState
from fedvol.store import Wanted, load_records, open_engine
from fedvol.types import Digest, RunId

RESTORE: Final = "restore"
"""Under which name runs are paused."""

_GOING = (RunState.PROPOSED, RunState.RUNNING, RunState.PAUSED)
_STORE_TABLE = re.compile(r"^\[store\][^\n]*\n(?:(?!\[)[^\n]*\n?)*", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A server that was restored.

    Attributes:
        digest: Digest of the backup's manifest.
        facts: What the backup is of.
        num_runs: Runs in its records.
        num_sites: Sites in them.
        num_users: Users that are let in.
        roster: Version of the newest roster in them; 0 for none.
        paused: Runs that were started, and wait now.
    """

    digest: Digest
    facts: BackupFacts
    num_runs: int
    num_sites: int
    num_users: int
    roster: int
    paused: tuple[RunId, ...]


def restore_server(
    backup: Path, *, into: Path, store: str | None = None, store_password: str | None = None
) -> Restored:
    """Fill an empty folder with a backup; runs that were started wait in it.

    Every file is held to its digest before the records are put into their database, all or none.

    Args:
        backup: The backup.
        into: The folder. Where this raises, it is to be removed.
        store: Section `[store]` of `server.toml`, to keep records elsewhere than before; empty: in
            the folder; None: as the backup's own says.
        store_password: The database's password, where `store` names it.

    Raises:
        BackupError: The backup is damaged, not whole, or none.
        SchemaVersionError: It is of a newer fedvol.
        UsageError: Its `server.toml` cannot be changed to keep records elsewhere.
        StoreError: The database holds records already, or something cannot be written.
    """
    into.chmod(0o700)
    manifest, digest = read_backup(backup, into=into)
    if store is not None:
        _keep_elsewhere(ServerFolder(folder=into), store, password=store_password)
    place = ServerFolder.configured(into, load_server(ServerFolder(folder=into).config).store)
    records = into / RECORDS
    engine = open_engine(place.store)
    try:
        with records.open("rb") as lines:
            load_records(engine, lines)
    finally:
        engine.dispose()
    records.unlink()
    state = ServerState.open(into)
    try:
        if state.key.public.hex != manifest.facts.identity:
            raise BackupError(str(backup), "its key is another server's", "Use another backup.")
        restored = _settled(state, facts=manifest.facts, digest=digest)
    finally:
        state.close()
    sync_tree(into)
    return restored


def _keep_elsewhere(place: ServerFolder, section: str, *, password: str | None) -> None:
    """Put another section `[store]` in the place of the one there is."""
    text = _STORE_TABLE.sub("", place.config.read_text(encoding="utf-8"))
    if parse_server(text, where=str(place.config)).store != StoreSettings():
        raise UsageError(
            "--store",
            "the backup's server.toml says where records are, and not in a section [store]",
            "Restore without --store.",
        )
    text = text.rstrip("\n") + "\n" + section
    parse_server(text, where=str(place.config))
    write_atomic(place.config, text.encode())
    place.store_password.unlink(missing_ok=True)
    if password is not None:
        write_new(place.store_password, password.encode())


def _settled(state: ServerState, *, facts: BackupFacts, digest: Digest) -> Restored:
    """Have runs wait, and write down what was done."""
    taken = write_moment(facts.taken)
    now = write_moment(datetime.now(UTC))
    RestoredFrom(backup=digest, taken=taken, restored=now).write(state.folder.restored)
    with AuditLog(state.folder.audit, signer=state.key) as log:
        log.append(
            ServerRestored(
                backup=digest,
                taken=taken,
                records=facts.log_records,
                head=Digest(facts.log_head),
            )
        )
    paused: list[RunId] = []
    reason = f"the server was restored from a backup of {taken}"
    runs = state.runs.runs()
    going = {run.id: run.state for run in runs if run.state in _GOING}
    for request in state.store.agreements.requests():
        if request.wanted is Wanted.STARTED and request.run in going:
            state.store.agreements.want(request.run, Wanted.PAUSED, by=RESTORE, reason=reason)
            if going[request.run] is RunState.RUNNING:
                state.runs.set_run_state(request.run, RunState.PAUSED, reason=reason)
            paused.append(request.run)
    state.store.people.record(user=RESTORE, action="server restore", subject=taken, outcome="done")
    roster = state.registry.roster()
    return Restored(
        digest=digest,
        facts=facts,
        num_runs=len(runs),
        num_sites=len(state.store.sites.sites()),
        num_users=sum(user.removed is None for user in state.store.people.users()),
        roster=0 if roster is None else roster.version,
        paused=tuple(paused),
    )
