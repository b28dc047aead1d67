"""`CallMemory`: which calls were made lately, so that none is made twice; a restart forgets none.

A file holds a line for each call: when it came, and its nonce. It is written before the call is
let through, so the memory outlives a process that is killed; a power cut may cost the last seconds.
"""

import re
from collections import deque
from datetime import datetime, timedelta
from pathlib import Path
from typing import final

from fedvol.files import store_error, write_atomic

_LINE = re.compile(r"(\d{1,15}) ([0-9a-f]{32})")
_MIN_LINES = 10_000
"""Lines below which a file is not worth rewriting."""


@final
class CallMemory:
    """Nonces, each for as long as its call could be made again; as many as came in that time.

    Args:
        path: The file; None: they are forgotten when the process ends.
        keep: How long a nonce is kept.

    Raises:
        StoreError: The file cannot be read or written.
    """

    def __init__(self, path: Path | None, *, keep: timedelta) -> None:
        self._path = path
        self._keep_s = keep.total_seconds()
        self._by_age: deque[tuple[int, str]] = deque()
        self._seen: set[str] = set()
        self._lines = 0
        if path is not None:
            self._read(path)
            self._rewrite(path)  # what a power cut left half-written must not lead a line

    def __len__(self) -> int:
        return len(self._by_age)

    def is_new(self, nonce: str, *, now: datetime) -> bool:
        """Whether a nonce was not seen before; it is, from now on.

        Raises:
            DiskFullError: It cannot be written down, so the call must not pass.
            StoreError: The same.
        """
        now_s = int(now.timestamp())
        while self._by_age and now_s - self._by_age[0][0] > self._keep_s:
            self._seen.discard(self._by_age.popleft()[1])
        if nonce in self._seen:
            return False
        if self._path is not None:
            self._write(self._path, now_s, nonce)
        self._add(now_s, nonce)
        return True

    def _add(self, at_s: int, nonce: str) -> None:
        self._by_age.append((at_s, nonce))
        self._seen.add(nonce)

    def _read(self, path: Path) -> None:
        try:
            text = path.read_text(errors="replace") if path.exists() else ""
        except OSError as error:
            raise store_error(path, error) from error
        for line in text.splitlines():
            found = _LINE.fullmatch(line)
            if found is not None:
                self._add(int(found[1]), found[2])

    def _write(self, path: Path, now_s: int, nonce: str) -> None:
        if self._lines > max(_MIN_LINES, 2 * len(self._by_age)):
            self._rewrite(path)
        try:
            with path.open("ab") as file:
                file.write(f"{now_s} {nonce}\n".encode())
        except OSError as error:
            raise store_error(path, error) from error
        self._lines += 1

    def _rewrite(self, path: Path) -> None:
        kept = "".join(f"{at_s} {one}\n" for at_s, one in self._by_age)
        write_atomic(path, kept.encode())
        self._lines = len(self._by_age)
