"""A site pauses and goes on; both are in its audit log."""

import json
from datetime import datetime

from fedvol.audit import AuditLog, SitePause
from fedvol.site.folder import SiteFolder


def pause(folder: SiteFolder, *, by: str, reason: str, now: datetime) -> None:
    """Answer no request until `resume`; what is under way is not sent.

    Raises:
        StoreError: The folder cannot be written.
        KeyFileError: The site's key cannot be read; it is paused all the same.
        AuditError: It cannot be written down; it is paused all the same.
    """
    said = {"by": by, "reason": reason, "since": now.isoformat()}
    folder.write(folder.paused_file, json.dumps(said).encode())
    _log(folder, paused=True, by=by, reason=reason)


def resume(folder: SiteFolder, *, by: str, reason: str) -> bool:
    """Answer requests again; whether the site was paused.

    Raises:
        KeyFileError: The site's key cannot be read; it stays paused.
        AuditError: It cannot be written down; it stays paused.
        StoreError: The folder cannot be written.
    """
    if not folder.paused_file.exists():
        return False
    _log(folder, paused=False, by=by, reason=reason)
    folder.remove(folder.paused_file)
    return True


def _log(folder: SiteFolder, *, paused: bool, by: str, reason: str) -> None:
    with AuditLog(folder.audit_file, signer=folder.identity()) as log:
        log.append(SitePause(paused=paused, by=by, reason=reason))
