"""Cases held uncompressed in main memory, within a limit that all sites of a process share."""

from collections import deque
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary, finalize

from fedvol.data.case_store import StoredCase, Voxels


class DecodedCases:
    """Holds the voxels of cases until a limit is reached; the other cases stay on disk.

    What is held stays until its case is no longer used. Nothing is dropped to make room: cases
    are drawn uniformly, so any other case would be as good, and each exchange would decompress a
    whole volume for one patch. A patch has the same bits from memory and from disk.

    Args:
        limit_bytes: Most memory that voxels may take together.
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._held: WeakKeyDictionary[StoredCase, Voxels] = WeakKeyDictionary()
        self._size_bytes = 0
        self._freed_bytes: deque[int] = deque()
        self._lock = Lock()

    def voxels(self, case: StoredCase) -> Voxels | None:
        """The case's voxels, decompressed now if there is room; None where there is none.

        Raises:
            CaseStoreError: The case is damaged.
        """
        held = self._held.get(case)
        if held is not None:
            return held
        with self._lock:
            if self._count() + case.voxel_bytes > self.limit_bytes:
                return None
            if case not in self._held:
                self._held[case] = case.voxels()
                self._size_bytes += case.voxel_bytes
                finalize(case, self._freed_bytes.append, case.voxel_bytes)
            return self._held[case]

    @property
    def size_bytes(self) -> int:
        """Memory taken by what is held."""
        with self._lock:
            return self._count()

    def _count(self) -> int:
        # What a case frees is put down without the lock: cases end at any time, in any thread.
        while self._freed_bytes:
            self._size_bytes -= self._freed_bytes.popleft()
        return self._size_bytes

    def __contains__(self, case: StoredCase) -> bool:
        return case in self._held


LIMIT_BYTES: Final = 1 << 30
"""1 GiB, however many sites and studies are served: about 70 cases of 192 x 192 x 128 voxels and
one channel, or all of a small organ's."""

SHARED: Final = DecodedCases(limit_bytes=LIMIT_BYTES)
"""What every source of this process holds its cases in."""


def share_limit(num_processes: int) -> None:
    """Leave room for the other processes that hold cases in the memory of this machine."""
    SHARED.limit_bytes = LIMIT_BYTES // num_processes
