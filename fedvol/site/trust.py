"""The roster at a site: taken only as the pinned root signed it, and never an older one."""

from datetime import datetime

from fedvol.audit import AuditSink, RosterChange
from fedvol.errors import RosterError
from fedvol.identity import Roster, SignedRoster, accept
from fedvol.site.folder import SiteFolder


def held_roster(folder: SiteFolder) -> Roster | None:
    """The roster accepted last, however old; None before the first.

    Raises:
        RosterError: The file was changed, or is of another root.
    """
    path = folder.roster_file
    if not path.exists():
        return None
    signed = SignedRoster.parse(path.read_bytes(), where=str(path))
    return signed.open(folder.root(), where=str(path))


def current_roster(folder: SiteFolder, *, now: datetime) -> Roster:
    """The roster that holds now.

    Raises:
        RosterError: There is none yet, or its time is over.
    """
    path = folder.roster_file
    if not path.exists():
        raise RosterError(
            str(path),
            "no roster of the consortium has arrived yet",
            "Enrol, compare fingerprints with the operator, and wait until the root has signed.",
        )
    signed = SignedRoster.parse(path.read_bytes(), where=str(path))
    return accept(signed, root=folder.root(), held=None, now=now, where=str(path))


def take_roster(
    folder: SiteFolder, data: bytes, *, audit: AuditSink, now: datetime
) -> tuple[Roster, bool]:
    """Accept a roster that arrived.

    Args:
        folder: The site's folder.
        data: Its bytes.
        audit: Where a new one is written down, before it holds.
        now: The time.

    Returns:
        The roster, and whether it is a new one.

    Raises:
        RosterError: It is of another root, older, damaged, or does not hold now.
        AuditError: A new one cannot be written down.
    """
    where = "roster of the server"
    held = held_roster(folder)
    roster = accept(
        SignedRoster.parse(data, where=where), root=folder.root(), held=held, now=now, where=where
    )
    is_new = held is None or held.version < roster.version
    if is_new:
        audit.append(RosterChange.between(held, roster))
        folder.write(folder.roster_file, data)
    return roster, is_new
