"""`BlobFolder`: weights on their way, in files named by their digest; the server's side.

What the server gives out lies in `down`; what a site brings lies in a folder of its own until all
of it is there and its digest is the one announced. A part stays, so that a cut link goes on where
it was. A site may bring what it was asked for and no more, so that none can fill the disk.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, final

from fedvol.errors import BlobElsewhereError, BlobRefusedError
from fedvol.files import digest_file, store_error, write_atomic
from fedvol.types import Digest, SiteId

_DIGEST = re.compile(r"^[0-9a-f]{64}$")
_SITE = re.compile(r"^[A-Za-z0-9_.-]{1,100}$")


@final
class BlobFolder:
    """Weights that are given out and brought.

    Args:
        folder: Made when it is needed.
        max_waiting: Most blobs of a site that lie here at one time.
    """

    def __init__(self, folder: Path, *, max_waiting: int = 2) -> None:
        self._folder = folder
        self._max_waiting = max_waiting
        self._written: set[Path] = set()

    def down(self, digest: Digest) -> Path:
        """Where a blob that is given out lies.

        Raises:
            BlobRefusedError: That is no digest.
        """
        self._require_digest(digest)
        return self._folder / "down" / f"{digest}.safetensors"

    def up(self, site: SiteId, digest: Digest) -> Path:
        """Where a whole blob of a site lies.

        Raises:
            BlobRefusedError: That is no digest, or no name of a site.
        """
        self._require_digest(digest)
        return self._site(site) / f"{digest}.safetensors"

    def offset(self, site: SiteId, digest: Digest) -> tuple[int, bool]:
        """How many bytes of a site's blob are here, and whether it is whole."""
        whole = self.up(site, digest)
        if whole.is_file():
            return whole.stat().st_size, True
        part = self._part(site, digest)
        return (part.stat().st_size if part.is_file() else 0), False

    def expect(self, site: SiteId, *, max_bytes: int) -> None:
        """Let a site bring one answer; what it brought for another question goes.

        Args:
            site: Who was asked.
            max_bytes: Largest blob that can be an answer.

        Raises:
            StoreError: The folder cannot be written.
        """
        self.clear(site)
        write_atomic(self._limit(site), str(max_bytes).encode())

    @contextmanager
    def appending(
        self, site: SiteId, digest: Digest, *, offset: int, size_bytes: int
    ) -> Generator[BinaryIO, None, None]:
        """The file to which the next bytes of a blob are appended; one caller at a time has it.

        Args:
            site: Whose blob.
            digest: Of all of it.
            offset: Where the bytes begin.
            size_bytes: How many come.

        Raises:
            BlobElsewhereError: They do not follow what is here, or others are coming now.
            BlobRefusedError: Nothing is expected of the site, it would become too large, or too
                many of the site's blobs are waiting.
            StoreError: The folder cannot be written.
        """
        part = self._part(site, digest)
        if part in self._written:
            raise self._elsewhere("an earlier call is still bringing bytes of it")
        here, is_whole = self.offset(site, digest)
        if is_whole or offset != here:
            raise self._elsewhere("the bytes do not follow those that are here")
        if offset + size_bytes > self._max_bytes(site):
            raise self._refused("it would be larger than anything that was asked for")
        folder = self._site(site)
        self._written.add(part)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not part.exists() and len(list(folder.iterdir())) >= self._max_waiting:
                raise self._refused("too many of the site's blobs are waiting already")
            # Unbuffered, so that the file's length says at any moment how much has come.
            with part.open("ab", buffering=0) as file:
                yield file
        except OSError as error:
            raise store_error(folder, error) from error
        finally:
            self._written.discard(part)

    def close_part(self, site: SiteId, digest: Digest) -> None:
        """Take a blob whose bytes are all here.

        Raises:
            BlobRefusedError: They are not those of the digest; they are gone then.
        """
        part = self._part(site, digest)
        if not part.is_file() or digest_file(part) != digest:
            part.unlink(missing_ok=True)
            raise self._refused("its bytes are not those of its digest")
        part.replace(self.up(site, digest))

    def remove(self, site: SiteId, digest: Digest) -> None:
        """Forget a site's blob."""
        self.up(site, digest).unlink(missing_ok=True)

    def clear(self, site: SiteId) -> None:
        """Forget everything a site brought."""
        folder = self._site(site)
        for path in folder.iterdir() if folder.is_dir() else ():
            path.unlink(missing_ok=True)

    def _max_bytes(self, site: SiteId) -> int:
        """Bytes of the largest blob that is expected of a site; 0 if none is."""
        try:
            return int(self._limit(site).read_text())
        except FileNotFoundError:
            return 0

    def _limit(self, site: SiteId) -> Path:
        return self._folder / "expected" / self._site(site).name

    def _part(self, site: SiteId, digest: Digest) -> Path:
        return self.up(site, digest).with_suffix(".part")

    def _site(self, site: SiteId) -> Path:
        if not _SITE.fullmatch(site) or site.strip(".") == "":
            raise self._refused("that is no name of a site")
        return self._folder / "up" / site

    def _require_digest(self, digest: Digest) -> None:
        if not _DIGEST.fullmatch(digest):
            raise self._refused("that is no digest")

    def _elsewhere(self, what: str) -> BlobElsewhereError:
        return BlobElsewhereError("blob", what, "Ask how much of it is there, and go on there.")

    def _refused(self, what: str) -> BlobRefusedError:
        return BlobRefusedError("blob", what, "Bring what the server asked for, and no more.")
