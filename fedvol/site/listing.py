"""What a folder of volumes lists, as one digest: any case, subject, split or file changes it."""

from collections.abc import Sequence
from pathlib import Path

from fedvol.data import CaseEntry
from fedvol.plan import digest_json
from fedvol.types import Digest, Json


def listing_digest(entries: Sequence[CaseEntry]) -> Digest:
    """Digest of the cases a folder lists, and of size and time of each of their files.

    No file is opened: a volume that was changed without changing either is not noticed.

    Args:
        entries: Cases of one site's folder.
    """
    return digest_json([_case(entry) for entry in entries])


def _case(entry: CaseEntry) -> list[Json]:
    files = [*entry.images, *([] if entry.label is None else [entry.label])]
    return [
        entry.case,
        entry.subject,
        entry.split,
        entry.fold,
        entry.label is not None,
        [_file(path) for path in files],
    ]


def _file(path: Path) -> list[Json]:
    try:
        about = path.stat()
    except OSError:  # a case whose file is gone is left out by name when it is prepared
        return [str(path), None, None]
    return [str(path), str(about.st_size), str(about.st_mtime_ns)]  # beyond what a float holds
