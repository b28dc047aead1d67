"""What a run tells while it goes: events for whoever watches, and log lines without names.

An event is a short constant such as `round.closed` plus fields. Observers receive events; they
never change a run.
"""

import errno
import json
import logging
import math
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

import structlog
from structlog.typing import EventDict

from fedvol.errors import DiskFullError, StoreError
from fedvol.types import Json

PERSONAL_FIELDS = ("case", "path", "subject")
"""Log fields that may point at a patient; they stay at the level of debugging."""


_BLOCK_BYTES = 1 << 16


class Observer(Protocol):
    """Whoever watches a run."""

    def event(self, name: str, /, **fields: Json) -> None:
        """Take note of an event; return soon, change nothing."""
        ...


class Broadcast:
    """Passes each event to several observers, in order."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def event(self, name: str, /, **fields: Json) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.event(name, **fields)


class JsonLines:
    """Appends each event to a file as one JSON object a line: `time`, `event`, then the fields.

    A number that is not finite becomes null, as JSON has no word for it. A last line that was cut
    short by a crash is removed on opening, so every line of the file is whole.

    Args:
        path: The file; made if absent, continued if there.
        now: The clock, in UTC.
    """

    def __init__(
        self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._path = path
        self._now = now
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_cut_line(path)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise self._error(error) from error

    def event(self, name: str, /, **fields: Json) -> None:
        """Append a line.

        Raises:
            DiskFullError: No space is left.
            StoreError: The file cannot be written.
        """
        time = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Json] = {"time": time, "event": name}
        line |= {key: _finite(value) for key, value in fields.items()}
        rest = f"{json.dumps(line, ensure_ascii=False, allow_nan=False)}\n".encode()
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _error(self, error: OSError) -> StoreError:
        where = str(self._path)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFullError(where, "no space left on the disk", "Free some space.")
        return StoreError(where, error.strerror or "cannot be written", "Check the path.")


def set_up_logging(stream: TextIO, *, level: int = logging.WARNING) -> None:
    """Send all log records, those of libraries too, to a stream as lines of key=value.

    Only `cli` calls it. Above the level of debugging, fields that may point at a patient are
    dropped.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.LogfmtRenderer(
                    key_order=["timestamp", "level", "logger", "event"]
                ),
            ],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redact(_logger: object, method: str, event: EventDict) -> EventDict:
    """Drop the fields that may point at a patient, unless the line is for debugging."""
    if method == "debug":
        return event
    return {key: value for key, value in event.items() if key not in PERSONAL_FIELDS}


def printable(text: str) -> str:
    """One line in which nothing steers the terminal; for whatever others wrote."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _finite(value: Json) -> Json:
    match value:
        case float() if not math.isfinite(value):
            return None
        case list():
            return [_finite(item) for item in value]
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case _:
            return value


def _drop_cut_line(path: Path) -> None:
    if not path.is_file():
        return
    with path.open("r+b") as file:
        end = start = file.seek(0, os.SEEK_END)
        while start:
            start = max(0, start - _BLOCK_BYTES)
            file.seek(start)
            if newline := file.read(min(_BLOCK_BYTES, end - start)).rfind(b"\n") + 1:
                file.truncate(start + newline)
                return
        file.truncate(0)
