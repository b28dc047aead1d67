"""Cases held uncompressed in main memory, within a limit that all sites of a process share."""

from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

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
        self._lock = Lock()

    def voxels(self, case: StoredCase) -> Voxels | None:
        """The case's voxels, decompressed now if there is room; None where there is none.

        Raises:
            CaseStoreError: The case has no label.
        """
        held = self._held.get(case)
        if held is not None:
            return held
        with self._lock:
            if self.size_bytes + case.voxel_bytes > self.limit_bytes:
                return None
            return self._held.setdefault(case, case.voxels())

    @property
    def size_bytes(self) -> int:
        """Memory taken by what is held."""
        return sum(case.voxel_bytes for case in list(self._held))

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
