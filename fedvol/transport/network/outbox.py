"""`Outbox`: what a site answered last, of every run.

An answer is on disk before it leaves, under the digest of its request. Whoever is killed, and
whatever is cut: the same request gets the same answer, and nothing is trained or released twice,
as long as the answer is among the last that were kept.
"""

import shutil
from pathlib import Path
from typing import final

from fedvol.errors import MessageError
from fedvol.files import digest_file, remove_unfinished, store_error, write_atomic
from fedvol.identity import SignedBody
from fedvol.store import write_state
from fedvol.transport.headers import TensorFile
from fedvol.types import Digest, RunId, State

_TERMS_LETTERS = 16
_ONCE = ".once"


@final
class Outbox:
    """Answers by the digest of their request; one process uses it.

    Args:
        folder: The outbox of all runs; made when it is needed.
        run: The run that is answered.
        terms: Digest of what decides which answers may leave.
        keep: Answers that are kept, of all runs together; the oldest go when a new one comes.
    """

    def __init__(self, folder: Path, *, run: RunId, terms: Digest, keep: int = 8) -> None:
        self._all = folder
        self._folder = _of_terms(folder, run, terms)
        self._keep = keep

    @classmethod
    def under(cls, folder: Path, *, run: RunId, terms: Digest) -> "Outbox":
        """The answers that a run was given under these terms.

        Those that it was given under other terms are removed, those of other runs are not.

        Args:
            folder: The outbox of all runs.
            run: The run that is answered.
            terms: Digest of what decides which answers may leave.

        Raises:
            StoreError: The folder cannot be written.
        """
        own = _of_terms(folder, run, terms)
        try:
            for other in own.parent.iterdir() if own.parent.is_dir() else ():
                if other != own:
                    shutil.rmtree(other)
        except OSError as error:
            raise store_error(folder, error) from error
        return cls(folder, run=run, terms=terms)

    @staticmethod
    def remove_unfinished(folder: Path) -> None:
        """Remove what a killed process left: files half-written, and tensors without an answer.

        Only while nobody writes answers.

        Args:
            folder: The outbox of all runs.

        Raises:
            StoreError: The folder cannot be written.
        """
        remove_unfinished(folder)
        try:
            for tensors in folder.rglob("*.safetensors"):
                if not tensors.with_suffix(".json").exists():
                    tensors.unlink()
        except OSError as error:
            raise store_error(folder, error) from error

    @staticmethod
    def is_kept(folder: Path, request: Digest, *, run: RunId, terms: Digest) -> bool:
        """Whether a request was answered under these terms; for another process than the writer.

        Args:
            folder: The outbox of all runs.
            request: Digest of the request.
            run: The run that it is of.
            terms: Digest of what decides which answers may leave.
        """
        own = _of_terms(folder, run, terms)
        return _header(own, request).is_file() or _once(own, request).is_file()

    def write_tensors(self, request: Digest, tensors: State) -> TensorFile | None:
        """Write an answer's tensors, whole or not at all.

        Raises:
            StoreError: The folder cannot be written.
        """
        if not tensors:
            return None
        path = self.tensors(request)
        digest = write_state(path, tensors.items(), metadata={})
        return TensorFile(digest=digest, size_bytes=path.stat().st_size)

    def put(self, request: Digest, body: SignedBody) -> None:
        """Keep an answer, after its tensors.

        Raises:
            StoreError: The folder cannot be written.
        """
        write_atomic(_header(self._folder, request), body.to_bytes())
        self._prune()

    def put_once(self, request: Digest, body: SignedBody) -> None:
        """Keep an answer that is never given again until the next such one; it takes no place.

        It is there for `is_kept`, which is asked before the answer leaves.

        Raises:
            StoreError: The folder cannot be written.
        """
        for old in self._all.rglob(f"*{_ONCE}"):
            old.unlink()
        write_atomic(_once(self._folder, request), body.to_bytes())

    def find(self, request: Digest) -> SignedBody | None:
        """The answer to a request; None if there is none, or it is damaged.

        What is damaged is made again, as if it had never been there.
        """
        path = _header(self._folder, request)
        try:
            body = SignedBody.parse(path.read_bytes(), where=str(path), limit_bytes=4 << 20)
        except (FileNotFoundError, MessageError):
            return None
        except OSError as error:
            raise store_error(path, error) from error
        return body

    def holds(self, request: Digest, tensors: TensorFile) -> bool:
        """Whether the file of an answer's tensors is whole."""
        path = self.tensors(request)
        return path.is_file() and digest_file(path) == tensors.digest

    def tensors(self, request: Digest) -> Path:
        """The file of an answer's tensors, where it has some."""
        return self._folder / f"{request}.safetensors"

    def _prune(self) -> None:
        headers = sorted(self._all.rglob("*.json"), key=lambda one: one.stat().st_mtime_ns)
        for old in headers[: -self._keep]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)


def _of_terms(folder: Path, run: RunId, terms: Digest) -> Path:
    return folder / run / terms[:_TERMS_LETTERS]


def _header(folder: Path, request: Digest) -> Path:
    return folder / f"{request}.json"


def _once(folder: Path, request: Digest) -> Path:
    return folder / f"{request}{_ONCE}"
