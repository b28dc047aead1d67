"""`SuperLink`: Flower's server app, embedded, so that only what we mean to open is open.

Stock Flower answers operators, coordinators and sites on one port and asks operators for nothing.
Here its operator and coordinator routes want a secret of this server, sites are registered by us
alone, each by its key and under its name, and nothing of a run is executed at a site but what the
site installed.
"""

import hmac
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from fastapi import FastAPI

from fedvol.errors import SiteRegistrationError
from fedvol.transport.network.calls import TOLERANCE
from fedvol.transport.network.superlink_engine import (
    ACCESS_TOKEN,
    HEARTBEAT_DEFAULT_INTERVAL,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    AccountInfo,
    ControlAuthnPlugin,
    LinkState,
    SuperLinkLifespan,
    SuperLinkLifespanConfig,
    create_app,
    tolerate_clocks,
)
from fedvol.types import SiteId

MIN_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperLinkSettings:
    """What an embedded SuperLink is given.

    Attributes:
        database: SQLite file of nodes, runs and messages under way; they survive a restart.
        secret: Whoever knows it may conduct runs: the coordinator of this machine.
    """

    database: Path
    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the secret has fewer than {MIN_SECRET_BYTES} bytes")


@final
class SuperLink:
    """Flower's server app and its registry of sites.

    Args:
        settings: Where its state lies, and its secret.
    """

    def __init__(self, settings: SuperLinkSettings) -> None:
        config = SuperLinkLifespanConfig(
            control_address="",
            health_server_address=None,
            host="",
            port=0,
            insecure=True,
            certificates=None,
            superexec_auth_secret=settings.secret,
            authn_plugin=_SecretBearer(settings.secret),
            event_log_plugin=None,
            fleet_event_log_plugin=None,
            enable_event_log=False,
            artifact_provider=None,
            enable_supernode_auth=True,
            fleet_api_type="grpc-rere",
            fleet_api_address=None,
            simulation=False,
            ssl_ca_certfile=None,
            ssl_certfile=None,
            ssl_keyfile=None,
            database=str(settings.database),
            isolation="process",
            runtime_dependency_install=False,
        )
        tolerate_clocks(TOLERANCE.total_seconds())  # one limit, whichever route a site calls
        self._setting = threading.Lock()
        self.app: FastAPI = create_app(config, SuperLinkLifespan)
        self._admitted: frozenset[bytes] = frozenset()

    @property
    def _state(self) -> LinkState:
        state: LinkState = self.app.state.linkstate_factory.state()
        return state

    def admits(self, key: bytes) -> bool:
        """Whether the node with this public key, as PEM, is of a site that may connect now."""
        return key in self._admitted

    def online(self) -> tuple[SiteId, ...]:
        """Sites that may connect and whose node is there now, sorted."""
        nodes = self._state.get_node_info(statuses=["online"])
        return tuple(
            sorted(SiteId(node.name) for node in nodes if self.admits(bytes(node.public_key)))
        )

    def set_sites(self, keys: Mapping[SiteId, bytes]) -> None:
        """Let exactly these sites connect; a site that was left out may come back with its key.

        Flower never takes a key again that was once unregistered, so a node stays registered and
        is kept out at the gate; a node whose site has another key now is unregistered.

        Args:
            keys: Public key of each site's node, as PEM.

        Raises:
            SiteRegistrationError: A key is another site's, or was once, or was replaced before; the
                sites with other keys may connect.
        """
        with self._setting:
            self._set_sites(keys)

    def _set_sites(self, keys: Mapping[SiteId, bytes]) -> None:
        if len(set(keys.values())) != len(keys):
            raise SiteRegistrationError(
                "sites", "two of them have one node key", "Have each make a key of its own."
            )
        state = self._state
        present = {
            SiteId(node.name): (node.node_id, bytes(node.public_key))
            for node in state.get_node_info(statuses=["registered", "online", "offline"])
        }
        admitted: set[bytes] = set()
        refused: list[SiteId] = []
        for site, key in sorted(keys.items()):
            node, held = present.get(site, (0, b""))
            if held and held != key:
                state.delete_node(NOOP_FLWR_AID, node)
            try:
                if held != key:
                    self._register(site, key)
                admitted.add(key)
            except ValueError:
                refused.append(site)
        self._admitted = frozenset(admitted)
        if refused:
            raise SiteRegistrationError(
                f"site {', '.join(refused)}",
                "its node key is in use by another site, or was in use before",
                "Have the site make a new node key and enrol again; the other sites may connect.",
            )

    def _register(self, site: SiteId, key: bytes) -> None:
        self._state.create_node(
            NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, HEARTBEAT_DEFAULT_INTERVAL, name=site
        )


def bearer(secret: bytes) -> str:
    """The token by which the coordinator reaches Flower's operator routes.

    Args:
        secret: The SuperLink's secret; it cannot be told from the token.
    """
    return hmac.digest(secret, b"fedvol/v1/control", "sha256").hex()


@final
class _SecretBearer(ControlAuthnPlugin):
    """Lets in whoever brings the token of `bearer`, as the one account Flower knows here."""

    def __init__(self, secret: bytes) -> None:
        self._token = bearer(secret)

    def get_login_details(self) -> None:
        """There is no login."""

    def validate_tokens_in_metadata(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[bool, AccountInfo | None]:
        """Whether the caller knows the token."""
        given = str(dict(metadata).get(ACCESS_TOKEN, ""))
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return False, None
        return True, AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)

    def get_auth_tokens(self, device_code: str) -> None:
        """None are given out."""
        del device_code

    def refresh_tokens(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[Sequence[tuple[str, str | bytes]] | None, AccountInfo | None]:
        """None are renewed."""
        del metadata
        return None, None
