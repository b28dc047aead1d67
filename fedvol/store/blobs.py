"""`BlobStore`: weights and contributions in files named by the digest of their content."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from fedvol.errors import BlobDamagedError
from fedvol.files import atomic_path, digest_file
from fedvol.store.tensor_files import StateFile, write_state
from fedvol.types import Digest

_BLOB = re.compile(r"^[0-9a-f]{64}\.safetensors$")
_INCOMING = re.compile(r"^\.?incoming-\d+(\..*)?$")


@final
class BlobStore:
    """A folder of safetensors files, each under its own digest.

    One process writes it: whoever holds the folder it lies in.

    Args:
        folder: Made when the first blob is put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verified: set[Digest] = set()

    def put(
        self,
        tensors: Iterable[tuple[str, NDArray[np.generic]]],
        *,
        metadata: Mapping[str, str],
    ) -> Digest:
        """Write tensors, one at a time in memory; the same content is held once.

        Raises:
            DiskFullError: No space is left.
            StoreError: The folder cannot be written.
        """
        incoming = self._folder / f"incoming-{os.getpid()}"
        digest = write_state(incoming, tensors, metadata=metadata)
        with atomic_path(self.path(digest)) as temporary:
            incoming.replace(temporary)
        self._verified.add(digest)
        return digest

    def open(self, digest: Digest) -> StateFile:
        """Read a blob; its content is compared with its digest once in a process.

        Raises:
            BlobDamagedError: It is absent, or its content is not what was put.
        """
        path = self.path(digest)
        if digest not in self._verified:
            if not path.is_file():
                raise BlobDamagedError(
                    str(path), "it is absent", "Restore the folder, or start the run anew."
                )
            if digest_file(path) != digest:
                raise BlobDamagedError(
                    str(path),
                    "its content does not match its name",
                    "Restore the file from a copy, or start the run anew.",
                )
            self._verified.add(digest)
        return StateFile(path)

    def path(self, digest: Digest) -> Path:
        """Where a blob lies, whether or not it is there."""
        return self._folder / f"{digest}.safetensors"

    def holds(self, digest: Digest) -> bool:
        """Whether a blob is there; its content is not looked at."""
        return self.path(digest).is_file()

    def prune(self, keep: Collection[Digest]) -> int:
        """Remove every other blob and what a killed process left half-written.

        Returns:
            How many blobs were removed.
        """
        removed = 0
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            digest = Digest(path.stem)
            if _BLOB.match(path.name) and digest not in keep:
                path.unlink()
                self._verified.discard(digest)
                removed += 1
            elif _INCOMING.match(path.name) or path.name.endswith(".part"):
                path.unlink()
        return removed
