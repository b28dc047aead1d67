"""`ServerFolder`: what lies where in the server's state folder."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedvol.config.server import SERVER_FILE, STORE_PASSWORD, StoreSettings
from fedvol.errors import StoreError
from fedvol.files import atomic_path
from fedvol.store import StoreAddress
from fedvol.transport.network.superlink import MIN_SECRET_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFolder:
    """What lies where in the server's state folder.

    Attributes:
        folder: The folder.
        database: Where the database of records is; None: a file in the folder.
    """

    folder: Path
    database: StoreAddress | None = None

    @classmethod
    def configured(cls, folder: Path, store: StoreSettings) -> Self:
        """A folder whose `server.toml` says where the records are."""
        if store.url is None:
            return cls(folder=folder)
        file = None if store.password_file is None else folder / store.password_file
        return cls(folder=folder, database=StoreAddress(url=store.url, password_file=file))

    @property
    def config(self) -> Path:
        """The operator's own file."""
        return self.folder / SERVER_FILE

    @property
    def identity(self) -> Path:
        """The server's identity key."""
        return self.folder / "keys" / "identity.pem"

    @property
    def authority(self) -> Path:
        """The consortium's TLS authority, where it is our own."""
        return self.folder / "tls" / "authority.pem"

    @property
    def certificate(self) -> Path:
        """The server's TLS certificate with its key, where it is our own authority's."""
        return self.folder / "tls" / "server.pem"

    @property
    def store_password(self) -> Path:
        """The database's password, where `fedvol server init` was given one."""
        return self.folder / STORE_PASSWORD

    @property
    def root(self) -> Path:
        """Public record of the consortium's root."""
        return self.folder / "root.json"

    @property
    def engine(self) -> Path:
        """Nodes and messages of the engine."""
        return self.folder / "flower.db"

    @property
    def store(self) -> Path | StoreAddress:
        """Runs, sites, agreements."""
        return self.database or self.folder / "server.db"

    @property
    def exchange(self) -> Path:
        """Weights on their way."""
        return self.folder / "exchange"

    @property
    def calls(self) -> Path:
        """Sites' calls of the last minutes, each of which is let through once."""
        return self.folder / "calls.txt"

    @property
    def events(self) -> Path:
        """What the coordinator told, a line each."""
        return self.folder / "events.jsonl"

    @property
    def audit(self) -> Path:
        """What operators did, in a chain of hashes."""
        return self.folder / "audit.jsonl"

    @property
    def restored(self) -> Path:
        """From which backup the server goes on, where it was restored."""
        return self.folder / "restored.json"

    @property
    def conducting(self) -> Path:
        """Locked by the one coordinator."""
        return self.folder / "coordinator"

    @property
    def backing_up(self) -> Path:
        """Locked by the one backup that is being taken; second names of what it copies."""
        return self.folder / "backup"

    def blobs(self, run: str) -> Path:
        """Weights of a run."""
        return self.folder / "blobs" / run

    def initial(self, run: str) -> Path:
        """Initial weights of a run, as the operator brought them."""
        return self.blobs(run) / "initial.safetensors"

    @property
    def fingerprints(self) -> Path:
        """What became of fingerprint jobs."""
        return self.folder / "fingerprints"

    def fingerprint(self, job: str) -> Path:
        """What became of a fingerprint job: who was counted, and what was planned."""
        return self.fingerprints / f"{job}.json"

    def secret(self) -> bytes:
        """What the coordinator proves itself by to the engine; made where it is absent.

        Raises:
            StoreError: The file is open to others, or damaged.
        """
        path = self.folder / "secret"
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(secrets.token_bytes(MIN_SECRET_BYTES))
        content = path.read_bytes()
        if len(content) != MIN_SECRET_BYTES or path.stat().st_mode & 0o077:
            raise StoreError(
                str(path),
                "the server's secret is damaged, or others can read it",
                "Remove the file; the server makes another when it starts.",
            )
        return content
