"""A small consortium with keys of fixed seeds."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedvol.identity import (
    IdentityKey,
    NodeKey,
    Roster,
    ServerEntry,
    SiteEntry,
    SiteStatus,
)

NAME = "Four Hospitals"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def identity(name: str) -> IdentityKey:
    """The identity whose seed is SHA-256 of `tv/id/` and a name."""
    return IdentityKey(
        Ed25519PrivateKey.from_private_bytes(sha256(f"tv/id/{name}".encode()).digest())
    )


def node(name: str) -> NodeKey:
    """The node key whose secret number is SHA-256 of `tv/node/` and a name."""
    number = int.from_bytes(sha256(f"tv/node/{name}".encode()).digest(), "big")
    return NodeKey(ec.derive_private_key(number, ec.SECP384R1()))


ROOT, SERVER = identity("root"), identity("server")


def entry(site: str, *, status: SiteStatus = SiteStatus.ACTIVE, keys: str = "") -> SiteEntry:
    """A site's entry, with keys of its own name or of another."""
    return SiteEntry(
        site=site,
        identity=identity(keys or site).public,
        node=node(keys or site).public,
        status=status,
    )


def roster(*sites: SiteEntry, **other: Any) -> Roster:
    """A roster of some sites, by default two, that holds now; any field may be another."""
    fields: dict[str, Any] = {
        "consortium": NAME,
        "version": 1,
        "not_before": NOW - DAY,
        "not_after": NOW + DAY,
        "server": ServerEntry(identity=SERVER.public),
        "sites": sites or (entry("site-a"), entry("site-b")),
    }
    return Roster(**{**fields, **other})
