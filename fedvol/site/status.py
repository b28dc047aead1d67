"""What the running process says of itself, in a file that `fedvol site status` reads."""

import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from fedvol.errors import StoreError
from fedvol.files import hold, is_held, write_atomic
from fedvol.site.folder import SiteFolder
from fedvol.types import Json

_FIELDS: dict[str, str] = {
    "link.up": "link",
    "link.down": "link",
    "site.synced": "sync",
    "sync.failed": "sync",
    "site.training": "working",
    "site.evaluating": "working",
    "site.answered": "working",
    "site.refused": "refused",
    "prepare.case": "preparing",
    "prepare.done": "preparing",
    "prepare.failed": "preparing",
    "worker.started": "worker",
    "worker.lost": "worker",
}
"""Which part of the status an event replaces. Details of cases stay out of it."""

_DROPPED = frozenset({"case", "subject", "path", "detail"})


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
class StatusFile:
    """An observer that keeps the last event of each kind in the status file, until it is closed.

    Args:
        path: The file.
        now: The time, UTC.
        every_s: Seconds that pass at least between two writes for mere progress.
    """

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], datetime] = _utc_now,
        every_s: float = 2.0,
    ) -> None:
        self._path = path
        self._now = now
        self._every_s = every_s
        self._held = hold(_held_file(path))
        self._lock = threading.Lock()
        self._said: dict[str, Json] = {"process": os.getpid(), "since": now().isoformat()}
        self._written: datetime | None = None
        self._write()

    def event(self, name: str, /, **fields: Json) -> None:
        """Take note of an event."""
        part = _FIELDS.get(name)
        if part is None:
            return
        with self._lock:
            now = self._now()
            said: dict[str, Json] = {"event": name, "at": now.isoformat()}
            said |= {key: value for key, value in fields.items() if key not in _DROPPED}
            before = self._said.get(part)
            self._said[part] = said
            is_progress = isinstance(before, dict) and before.get("event") == name
            age = None if self._written is None else (now - self._written).total_seconds()
            if not is_progress or age is None or age >= self._every_s:
                self._write()

    def close(self) -> None:
        """Say that the process ended by itself."""
        with self._lock:
            self._said |= {"process": None, "ended": self._now().isoformat()}
            try:
                self._write()
            finally:
                self._held.close()

    def _write(self) -> None:
        self._written = self._now()
        write_atomic(self._path, json.dumps(self._said).encode(), mode=0o600)


def read_status(folder: SiteFolder) -> dict[str, Any] | None:
    """What the process said last; None if there was none yet.

    `is_running` is added: whether that process lives.

    Raises:
        StoreError: The file is damaged.
    """
    path = folder.status_file
    if not path.exists():
        return None
    try:
        said: dict[str, Any] = json.loads(path.read_bytes())
        return {**said, "is_running": is_held(_held_file(path))}
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            str(path), "it cannot be read", "Remove it; the running process writes another."
        ) from error


def _held_file(path: Path) -> Path:
    """What the running process holds: a lock ends with it, a number may be another process's."""
    return path.with_suffix(".lock")
