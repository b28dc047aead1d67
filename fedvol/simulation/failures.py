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
    classes_by_code,
)
from fedvol.files import store_error
from fedvol.types import SiteId

_OF_PROBLEMS = (StudyError, CaseTableError)
"""Made of problems instead of where, what and fix; no site meets them in a run."""


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
    kind = classes_by_code().get(told["code"])
    if kind is not None and kind not in _OF_PROBLEMS:
        return kind(told["where"], told["what"], told["fix"])
    error = SiteFailedError(f"site {site}", told["what"], "Mend it, and add --resume.")
    if "trace" in told:
        error.add_note(told["trace"])
    return error
