"""`Roster`: who takes part, with which keys, until when; signed by the consortium's root.

A roster travels as a `SignedBody`. `accept` is the one way from that to a `Roster` to be trusted:
of the pinned root, in its time, and never older than what is held. Revocation is a new version.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fedvol.config.base import Section
from fedvol.config.data import Name
from fedvol.errors import (
    RosterDuplicateError,
    RosterError,
    SiteNotActiveError,
    SiteNotInRosterError,
)
from fedvol.identity.documents import read_document, write_document
from fedvol.identity.fingerprint import fingerprint
from fedvol.identity.keys import PublicKey, PublicKeyField
from fedvol.identity.moments import Moment
from fedvol.identity.node_key import NodePublicKey, NodePublicKeyField
from fedvol.plan import digest_bytes
from fedvol.types import Digest

MAX_SITES = 1000
MAX_VERSION = 2**53 - 1

Consortium = Annotated[str, Field(pattern=r"^[^\s\p{C}]([^\p{C}]{0,98}[^\s\p{C}])?$")]
"""A consortium's name, as people write it: 1 to 100 letters, no line breaks."""


class SiteStatus(StrEnum):
    """What a site may do."""

    ACTIVE = "active"
    """Take part."""
    SUSPENDED = "suspended"
    """Nothing, for the time being; its keys are still its own."""
    REVOKED = "revoked"
    """Nothing; its keys may be in other hands."""


class ServerEntry(Section):
    """The server that the root vouches for."""

    identity: PublicKeyField
    """Key by which it signs what it asks."""


class SiteEntry(Section):
    """One site that the root vouches for."""

    site: Name
    """Its name in every study of the consortium."""
    identity: PublicKeyField
    """Key by which it signs what it says."""
    node: NodePublicKeyField
    """Key by which Flower knows its node."""
    status: SiteStatus
    """What it may do."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the name and both keys together; see `site_fingerprint`."""
        return site_fingerprint(self.site, identity=self.identity, node=self.node)


def site_fingerprint(site: str, *, identity: PublicKey, node: NodePublicKey) -> str:
    """What a hospital reads out: one fingerprint over its name and both of its public keys."""
    return fingerprint("site", site.encode(), identity.raw, node.raw)


def _sorted(sites: tuple[SiteEntry, ...]) -> tuple[SiteEntry, ...]:
    return tuple(sorted(sites, key=lambda entry: entry.site))


Sites = Annotated[tuple[SiteEntry, ...], Field(max_length=MAX_SITES), AfterValidator(_sorted)]
"""Entries in order of their names."""


class Roster(Section):
    """Who takes part.

    Raises:
        RosterDuplicateError: A name or a key stands in it twice.
    """

    format: Literal["fedvol.roster/1"] = "fedvol.roster/1"
    """Version of this schema."""
    consortium: Consortium
    """Whose roster it is."""
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)]
    """Rises with each roster that the root signs."""
    not_before: Moment
    """When it begins to hold."""
    not_after: Moment
    """From when on it holds no more."""
    server: ServerEntry
    """The one server."""
    sites: Sites
    """Every site, the suspended and revoked ones too."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.not_after <= self.not_before:
            raise ValueError("it ends before it begins")
        require_distinct(self.consortium, server=self.server, sites=self.sites)
        return self

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of its canonical JSON: the protocols' `roster_hash`."""
        return digest_bytes(write_document(self))

    def entry(self, site: str) -> SiteEntry:
        """What the roster says of a site, whatever its status.

        Raises:
            SiteNotInRosterError: Nothing.
        """
        for entry in self.sites:
            if entry.site == site:
                return entry
        raise SiteNotInRosterError(
            f"roster {self.version} of {self.consortium}",
            "it does not list this site",
            "Check the site's name; a new site waits for the root to sign the next roster.",
        )

    def require_active(self, site: str) -> SiteEntry:
        """The entry of a site that may take part.

        Raises:
            SiteNotInRosterError: It is not listed.
            SiteNotActiveError: It is suspended or revoked.
        """
        entry = self.entry(site)
        if entry.status is not SiteStatus.ACTIVE:
            raise SiteNotActiveError(
                f"site {entry.site}",
                f"it is {entry.status} in roster {self.version} of {self.consortium}",
                "Only a new roster, signed by the root, makes it active again.",
            )
        return entry


def require_distinct(consortium: str, *, server: ServerEntry, sites: Iterable[SiteEntry]) -> None:
    """Refuse a name or a key that stands twice; names are alike if only their case differs.

    Raises:
        RosterDuplicateError: One does; names both owners.
    """
    owners = {("identity key", server.identity.hex): "the server"}
    for entry in sites:
        for claim in (
            ("name", entry.site.lower()),
            ("identity key", entry.identity.hex),
            ("node key", entry.node.hex),
        ):
            if claim in owners:
                raise RosterDuplicateError(
                    f"roster of {consortium}",
                    f"{owners[claim]} and site {entry.site} have the same {claim[0]}",
                    "Each site makes keys of its own; find out who copied whose.",
                )
            owners[claim] = f"site {entry.site}"


def parse_roster(text: str, *, where: str) -> Roster:
    """Read a roster whose signature has held.

    Raises:
        RosterError: It is malformed.
        RosterDuplicateError: A name or a key stands in it twice.
    """
    data = text.encode()
    try:
        return read_document(Roster, data, limit_bytes=len(data))
    except ValueError as error:
        raise malformed_roster(where, str(error)) from error


def malformed_roster(where: str, reason: str) -> RosterError:
    """The error of a roster that cannot be read."""
    return RosterError(
        where, f"the roster is malformed: {reason}", "Fetch it again; compare both versions."
    )
