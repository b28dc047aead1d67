"""`SignedRoster` and `accept`: from bytes that came from anywhere to a roster that is trusted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from fedvol.errors import (
    RosterConflictError,
    RosterDuplicateError,
    RosterError,
    RosterExpiredError,
    RosterNotYetValidError,
    RosterOutdatedError,
    RosterRootError,
)
from fedvol.identity.documents import read_document, write_document
from fedvol.identity.keys import IdentityKey, PublicKey
from fedvol.identity.moments import write_moment
from fedvol.identity.roster import Roster, malformed_roster, parse_roster
from fedvol.identity.signed import SignedBody
from fedvol.identity.tags import Tag

MAX_ROSTER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SignedRoster:
    """A roster as it travels and lies on disk; what it says counts only after `accept`.

    Attributes:
        body: The roster's canonical JSON with the root's signature.
    """

    body: SignedBody

    @classmethod
    def sign(cls, roster: Roster, *, root: IdentityKey) -> Self:
        """Sign a roster with the root's key.

        Raises:
            RosterDuplicateError: The root's own key stands in it.
        """
        _require_root_apart(roster, root.public)
        return cls(SignedBody.sign(root, Tag.ROSTER, write_document(roster).decode()))

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Self:
        """Read one.

        Args:
            data: Its bytes.
            where: The file or the sender, for errors.

        Raises:
            RosterError: It is too large or malformed.
        """
        try:
            return cls(read_document(SignedBody, data, limit_bytes=MAX_ROSTER_BYTES))
        except ValueError as error:
            raise malformed_roster(where, str(error)) from error

    def to_bytes(self) -> bytes:
        """Its bytes, as `parse` reads them."""
        return self.body.to_bytes()

    def open(self, root: PublicKey, *, where: str) -> Roster:
        """What this root signed, however old; for whoever keeps rosters. Others use `accept`.

        Raises:
            RosterRootError: Another root signed it.
            SignatureError: The signature does not fit.
            RosterError: What is signed is no roster.
        """
        if self.body.signer != root:
            raise RosterRootError(
                where,
                f"it is signed by the root {self.body.signer.fingerprint}, "
                f"and the one pinned here is {root.fingerprint}",
                "Take nothing from its sender before the consortium has said, by another way, "
                "which root is its own.",
            )
        roster = parse_roster(self.body.open(Tag.ROSTER, signer=root, where=where), where=where)
        _require_root_apart(roster, root)
        return roster


def accept(
    new: SignedRoster, *, root: PublicKey, held: Roster | None, now: datetime, where: str
) -> Roster:
    """The roster in `new`, if it may take the place of the one held.

    Args:
        new: What arrived, or what lay on disk.
        root: The root's key that this party pinned when it joined.
        held: The roster accepted last; absent on joining.
        now: The time, with its zone.
        where: The file or the sender, for errors.

    Returns:
        The roster; equal to `held` if it is the same again.

    Raises:
        RosterRootError: Another root signed it.
        SignatureError: The signature does not fit.
        RosterError: It is malformed, or of another consortium.
        RosterDuplicateError: A name or a key stands in it twice.
        RosterOutdatedError: Its version is lower than the one held.
        RosterConflictError: Its version is the one held, its content is not.
        RosterNotYetValidError: Its time has not begun.
        RosterExpiredError: Its time is over.
    """
    roster = new.open(root, where=where)
    if held is not None:
        _require_successor(roster, held, where=where)
    if now < roster.not_before:
        raise RosterNotYetValidError(
            where,
            f"roster {roster.version} holds from {write_moment(roster.not_before)} on, "
            f"and the clock here says {write_moment(now)}",
            "Check this machine's clock; if it is right, wait.",
        )
    if now >= roster.not_after:
        raise RosterExpiredError(
            where,
            f"roster {roster.version} held until {write_moment(roster.not_after)}, "
            f"and the clock here says {write_moment(now)}",
            "Check this machine's clock; if it is right, the root must sign a new roster.",
        )
    return roster


def _require_successor(roster: Roster, held: Roster, *, where: str) -> None:
    if roster.consortium != held.consortium:
        raise RosterError(
            where,
            "it is the roster of another consortium than the one held",
            "Ask the operator which consortium this party joined.",
        )
    if roster.version < held.version:
        raise RosterOutdatedError(
            where,
            f"its version is {roster.version}, and version {held.version} is held already",
            "Ask the operator for the current roster; an old one could bring a revoked site back.",
        )
    if roster.version == held.version and roster.digest != held.digest:
        raise RosterConflictError(
            where,
            f"it differs from the roster held, and both are version {held.version}",
            "Tell the root: it must find out why, and sign a higher version.",
        )


def _require_root_apart(roster: Roster, root: PublicKey) -> None:
    owners = [("the server", roster.server.identity)]
    owners += [(f"site {entry.site}", entry.identity) for entry in roster.sites]
    for owner, key in owners:
        if key == root:
            raise RosterDuplicateError(
                f"roster of {roster.consortium}",
                f"{owner} has the root's own key",
                "The root's key signs rosters alone; make another for that party.",
            )
