"""`ServerState`: what every process of a server opens first; `create_server` makes it."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, cast

from fedvol.config.addresses import split_address
from fedvol.config.server import CertificateFiles, ServerConfig
from fedvol.config.server_loading import load_server, parse_server
from fedvol.errors import CertificateError, RosterError, UsageError
from fedvol.files import write_atomic, write_new
from fedvol.identity import (
    Authority,
    IdentityKey,
    RootRecord,
    check_server_certificate,
)
from fedvol.plan import canonical_json
from fedvol.server.server_folder import ServerFolder
from fedvol.server.site_registry import SiteRegistry
from fedvol.store import FederationStore, Role, RunStore, open_engine, require_empty
from fedvol.transport.network.listeners import Certificate
from fedvol.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """A server's folder, read.

    Attributes:
        folder: What lies where.
        config: The operator's own file.
        key: The server's identity.
        root: The consortium's root.
        store: Users, sites, agreements.
        runs: Records of runs.
        registry: The sites that may take part now.
    """

    folder: ServerFolder
    config: ServerConfig
    key: IdentityKey
    root: RootRecord
    store: FederationStore
    runs: RunStore
    registry: SiteRegistry

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a server's folder.

        Raises:
            ConfigError: `server.toml` is absent or wrong.
            IdentityError: A key or the root's record cannot be used, or they do not fit together.
            StoreError: The database cannot be used.
        """
        config = load_server(ServerFolder(folder=path).config)
        folder = ServerFolder.configured(path, config.store)
        key = IdentityKey.load(folder.identity)
        root = RootRecord.read(folder.root)
        require_one_consortium(config, root)
        store = FederationStore(open_engine(folder.store))
        return cls(
            folder=folder,
            config=config,
            key=key,
            root=root,
            store=store,
            runs=RunStore(open_engine(folder.store)),
            registry=SiteRegistry(
                store, root=root.root, consortium=config.consortium, server=key.public
            ),
        )

    @property
    def certificate(self) -> Certificate:
        """The files of the server's TLS certificate."""
        match self.config.certificate:
            case CertificateFiles(chain=chain, key=key):
                base = self.folder.folder
                return Certificate(chain=base / chain, key=base / key)
            case _:
                return Certificate(chain=self.folder.certificate, key=self.folder.certificate)

    @property
    def authority_pem(self) -> bytes:
        """The authority that sites are to trust.

        Raises:
            CertificateError: Its file cannot be read.
        """
        match self.config.certificate:
            case CertificateFiles(authority=authority):
                path = self.folder.folder / authority
                try:
                    return path.read_bytes()
                except OSError as error:
                    raise CertificateError(
                        str(path), f"it cannot be read ({error.strerror})", "Check the path."
                    ) from error
            case _:
                return Authority.load(self.folder.authority).certificate_pem

    def require_certificate(self) -> datetime:
        """Make sure that sites will accept the server's certificate.

        Returns:
            When it ends.

        Raises:
            CertificateError: They will not; says why.
        """
        files = self.certificate
        host, _ = split_address(self.config.address)
        return check_server_certificate(
            files.chain, files.key, authority_pem=self.authority_pem, host=host
        )

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()
        self.runs.close()


def create_server(
    folder: Path,
    *,
    config_text: str,
    root: RootRecord,
    operator: str,
    store_password: str | None = None,
) -> str:
    """Fill a new folder with all that a server needs.

    Args:
        folder: The folder, empty.
        config_text: Content of `server.toml`.
        root: The consortium's root.
        operator: Name of the first user.
        store_password: The database's password, where it wants one.

    Returns:
        The first user's token; only its digest is kept.

    Raises:
        ServerFileError: The configuration is wrong.
        CertificateError: The operator's own certificate does not do.
        StoreError: The database cannot be reached, or is not empty.
    """
    place = ServerFolder(folder=folder)
    config = parse_server(config_text, where=str(place.config))
    require_one_consortium(config, root)
    place = ServerFolder.configured(folder, config.store)
    folder.chmod(0o700)
    write_atomic(place.config, config_text.encode())
    write_atomic(place.root, canonical_json(cast("Json", root.model_dump(mode="json"))))
    IdentityKey.create(place.identity)
    if store_password is not None:
        write_new(place.store_password, store_password.encode())
    now = datetime.now(UTC)
    if not isinstance(config.certificate, CertificateFiles):
        authority = Authority.create(place.authority, consortium=config.consortium, now=now)
        host, _ = split_address(config.address)
        authority.issue(place.certificate, hosts=[host], now=now)
    place.secret()
    token = new_token()
    engine = open_engine(place.store)
    try:
        require_empty(engine)
        store = FederationStore(engine)
        store.people.add(operator, role=Role.OPERATOR, token=token)
        store.people.record(user=operator, action="server init", subject=operator, outcome="done")
    finally:
        engine.dispose()
    return token


def new_token() -> str:
    """A user's token: 32 random bytes in hexadecimal."""
    return secrets.token_hex(32)


def require_one_consortium(config: ServerConfig, root: RootRecord) -> None:
    """Refuse a root of another consortium than the server's.

    Raises:
        RosterError: It is.
        UsageError: The address cannot be used.
    """
    if root.consortium != config.consortium:
        raise RosterError(
            "root.json",
            f"it is of the consortium {root.consortium}, and server.toml names {config.consortium}",
            "Name the consortium as its root does.",
        )
    try:
        split_address(config.address)
    except ValueError as error:
        raise UsageError(
            "address", str(error), "Write it as hospitals reach the server."
        ) from error
