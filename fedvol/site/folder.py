"""`SiteFolder`: what lies where in a hospital's state folder, and how it is read."""

import os
import pwd
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedvol.config import DataSource, SiteConfig, load_site
from fedvol.errors import KeyFileError, StoreError, UsageError
from fedvol.files import store_error, write_atomic, write_new
from fedvol.identity import IdentityKey, PublicKey
from fedvol.identity.key_files import read_secret
from fedvol.types import Digest, RunId

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFolder:
    """A hospital's state folder.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @property
    def config_file(self) -> Path:
        """The hospital's own settings."""
        return self.folder / "site.toml"

    @property
    def identity_file(self) -> Path:
        """Key by which the site signs what it says."""
        return self.folder / "keys" / "identity.pem"

    @property
    def node_file(self) -> Path:
        """Key by which Flower knows its node."""
        return self.folder / "keys" / "node.pem"

    @property
    def token_file(self) -> Path:
        """The invitation's line, until it was used."""
        return self.folder / "keys" / "invitation"

    @property
    def resampling_file(self) -> Path:
        """Secret seed of bootstrap resamples."""
        return self.folder / "keys" / "resampling.key"

    @property
    def authority_file(self) -> Path:
        """The certificate authority of the server."""
        return self.folder / "trust" / "ca.pem"

    @property
    def root_file(self) -> Path:
        """Public key of the consortium's root."""
        return self.folder / "trust" / "root.pub"

    @property
    def roster_file(self) -> Path:
        """The roster accepted last."""
        return self.folder / "trust" / "roster.json"

    @property
    def store_file(self) -> Path:
        """Proposals and consents."""
        return self.folder / "site.db"

    @property
    def audit_file(self) -> Path:
        """What left, and what was agreed to."""
        return self.folder / "audit.jsonl"

    @property
    def node_state(self) -> Path:
        """Number of the node that is signed on."""
        return self.folder / "node"

    @property
    def outbox(self) -> Path:
        """Answers as they were given."""
        return self.folder / "outbox"

    @property
    def incoming(self) -> Path:
        """Weights that came down."""
        return self.folder / "incoming"

    @property
    def paused_file(self) -> Path:
        """Is there while somebody has paused the site."""
        return self.folder / "paused.json"

    @property
    def status_file(self) -> Path:
        """What the running process says of itself."""
        return self.folder / "status.json"

    @property
    def events_file(self) -> Path:
        """Everything that happened, a line each."""
        return self.folder / "events.jsonl"

    def cases(self, key: Digest) -> Path:
        """Cases prepared in one way; several runs may share them."""
        return self.folder / "cases" / key[:16]

    def run(self, run: RunId) -> Path:
        """Local state, checkpoints and rows of a run."""
        return self.folder / "runs" / run

    def require_site(self) -> None:
        """Refuse to work in a folder that is none of a site, however damaged.

        Raises:
            UsageError: It is none.
        """
        if not self.config_file.exists() and not self.identity_file.exists():
            raise self._no_site()

    def config(self) -> SiteConfig:
        """The hospital's settings.

        Raises:
            UsageError: This is no folder of a site.
            ConfigFileError: The file cannot be read.
            SiteFileError: It is wrong; carries every problem.
        """
        if not self.config_file.exists():
            raise self._no_site()
        return load_site(self.config_file)

    def source_folder(self, source: DataSource) -> Path:
        """Where a data source lies."""
        return (self.folder / source.folder).resolve()

    def identity(self) -> IdentityKey:
        """The site's identity.

        Raises:
            KeyFileError: It is absent, open to others or damaged.
        """
        return IdentityKey.load(self.identity_file)

    def root(self) -> PublicKey:
        """The root that was pinned when the site was made.

        Raises:
            StoreError: The file is absent or damaged.
        """
        try:
            return PublicKey(self.root_file.read_text().strip())
        except (OSError, ValueError) as error:
            raise _damaged(self.root_file) from error

    def authority_pem(self) -> bytes:
        """The certificate of the authority that was pinned.

        Raises:
            StoreError: The file cannot be read.
        """
        try:
            return self.authority_file.read_bytes()
        except OSError as error:
            raise _damaged(self.authority_file) from error

    def resampling_key(self) -> Digest:
        """Secret seed of bootstrap resamples, made where it is absent.

        Raises:
            KeyFileError: It is open to others or damaged.
        """
        path = self.resampling_file
        if not path.exists():
            with suppress(FileExistsError):  # another process was faster, and its key is as good
                write_new(path, secrets.token_bytes(_KEY_BYTES))
        content = read_secret(path)
        if len(content) != _KEY_BYTES:
            raise KeyFileError(
                str(path), "the key is damaged", "Restore it from a backup of the folder."
            )
        return Digest(content.hex())

    def proxy_url(self, config: SiteConfig) -> str | None:
        """The proxy with its password, where it wants one.

        Raises:
            KeyFileError: The file of its credentials is absent, or open to others.
        """
        link = config.link
        if link.proxy is None or link.proxy_credentials is None:
            return link.proxy
        path = self.folder / link.proxy_credentials
        user, colon, password = read_secret(path).decode(errors="replace").strip().partition(":")
        if not colon:
            raise KeyFileError(str(path), "it is not user:password", "Write it so, on one line.")
        scheme, _, host = link.proxy.partition("://")
        return f"{scheme}://{_escaped(user)}:{_escaped(password)}@{host}"

    def _no_site(self) -> UsageError:
        return UsageError(
            str(self.folder),
            "there is no site.toml, so this is no folder of a site",
            "Name the folder that `fedvol site init` made.",
        )

    def write(self, path: Path, data: bytes) -> None:
        """Write a file of this folder whole; only its owner may read it.

        Raises:
            StoreError: The folder cannot be written.
        """
        write_atomic(path, data, mode=0o600)

    def remove(self, path: Path) -> None:
        """Remove a file of this folder, where it is there.

        Raises:
            StoreError: The folder cannot be written.
        """
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise store_error(path, error) from error


def user_name() -> str:
    """Who runs this process, by the machine's own word."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _escaped(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _damaged(path: Path) -> StoreError:
    return StoreError(
        str(path),
        "it is absent or damaged",
        "Restore it from a backup of the folder; else ask the operator for a new invitation.",
    )
