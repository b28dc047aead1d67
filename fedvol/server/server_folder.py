"""`ServerFolder`: what lies where in the server's state folder."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from fedvol.config.server import SERVER_FILE
from fedvol.errors import StoreError
from fedvol.files import atomic_path
from fedvol.transport.network.superlink import MIN_SECRET_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFolder:
    """What lies where in the server's state folder.

    Attributes:
        folder: The folder.
        database: Address of the database of records; None: a file in the folder.
    """

    folder: Path
    database: str | None = None

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
    def root(self) -> Path:
        """Public record of the consortium's root."""
        return self.folder / "root.json"

    @property
    def engine(self) -> Path:
        """Nodes and messages of the engine."""
        return self.folder / "flower.db"

    @property
    def store(self) -> str | Path:
        """Runs, sites, agreements."""
        return self.database or self.folder / "server.db"

    @property
    def exchange(self) -> Path:
        """Weights on their way."""
        return self.folder / "exchange"

    @property
    def events(self) -> Path:
        """What the coordinator told, a line each."""
        return self.folder / "events.jsonl"

    @property
    def audit(self) -> Path:
        """What operators did, in a chain of hashes."""
        return self.folder / "audit.jsonl"

    @property
    def conducting(self) -> Path:
        """Locked by the one coordinator."""
        return self.folder / "coordinator"

    def blobs(self, run: str) -> Path:
        """Weights of a run."""
        return self.folder / "blobs" / run

    def initial(self, run: str) -> Path:
        """Initial weights of a run, as the operator brought them."""
        return self.blobs(run) / "initial.safetensors"

    def fingerprint(self, job: str) -> Path:
        """What became of a fingerprint job: who was counted, and what was planned."""
        return self.folder / "fingerprints" / f"{job}.json"

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
