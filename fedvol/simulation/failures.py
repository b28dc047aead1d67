"""A failure of a simulated site, as text from the process it worked in, and back as an error."""

import json
import traceback
from pathlib import Path

from fedvol.errors import (
    AuditError,
    CaseTableError,
    FedvolError,
    SiteFailedError,
    StudyError,
)
from fedvol.files import store_error
from fedvol.types import SiteId


def own_failure(error: Exception) -> Exception:
    """What a site raised, as this machine's error: a log on a full disk is a full disk."""
    cause = error.__cause__
    if isinstance(error, AuditError) and isinstance(cause, OSError):
        return store_error(Path(error.where), cause)
    return error


def describe_failure(error: Exception) -> str:
    """A failure as JSON."""
    failure = own_failure(error)
    if isinstance(failure, FedvolError):
        told = {
            "code": failure.code,
            "where": failure.where,
            "what": failure.what,
            "fix": failure.fix,
        }
    else:
        place = traceback.extract_tb(error.__traceback__)[-1]
        told = {
            "code": "",
            "what": f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})",
            "trace": "".join(traceback.format_exception(error)),
        }
    return json.dumps(told)


def failure_of(site: SiteId, text: str) -> FedvolError:
    """The error that a text tells of: from `describe_failure`, or why a worker is gone."""
    try:
        told = json.loads(text)
    except ValueError:
        told = {"code": "", "what": text or "its app failed"}
    kind = _kinds().get(told["code"])
    if kind is not None:
        return kind(told["where"], told["what"], told["fix"])
    error = SiteFailedError(f"site {site}", told["what"], "Mend it, and add --resume.")
    if "trace" in told:
        error.add_note(told["trace"])
    return error


def _kinds() -> dict[str, type[FedvolError]]:
    found: dict[str, type[FedvolError]] = {}
    waiting: list[type[FedvolError]] = [FedvolError]
    while waiting:
        kind = waiting.pop()
        found.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    for other in (StudyError, CaseTableError):  # made of problems; no site meets them in a run
        del found[other.code]
    return found
