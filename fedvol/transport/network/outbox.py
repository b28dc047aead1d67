"""`Outbox`: what a site answered, until the server asks for something else.

An answer is on disk before it leaves, under the digest of its request. Whoever is killed, and
whatever is cut: the same request gets the same answer, and nothing is trained or released twice.
"""

import shutil
from pathlib import Path
from typing import final

from fedvol.errors import MessageError
from fedvol.files import digest_file, remove_unfinished, store_error, write_atomic
from fedvol.identity import SignedBody
from fedvol.store import write_state
from fedvol.transport.headers import TensorFile
from fedvol.types import Digest, State

_TERMS_LETTERS = 16


@final
class Outbox:
    """Answers by the digest of their request; one process uses it.

    Args:
        folder: Made when it is needed.
        keep: Answers that are kept; older ones go when a new one comes.
    """

    def __init__(self, folder: Path, *, keep: int = 8) -> None:
        self._folder = folder
        self._keep = keep

    @classmethod
    def under(cls, folder: Path, *, terms: Digest) -> "Outbox":
        """The answers that were given under these terms; those given under others are removed.

        Args:
            folder: The outbox of all terms.
            terms: Digest of what decides which answers may leave.

        Raises:
            StoreError: The folder cannot be written.
        """
        own = _of_terms(folder, terms)
        try:
            for other in folder.iterdir() if folder.is_dir() else ():
                if other.is_dir() and other != own:
                    shutil.rmtree(other)
                elif other != own:
                    other.unlink()
        except OSError as error:
            raise store_error(folder, error) from error
        return cls(own)

    @staticmethod
    def remove_unfinished(folder: Path) -> None:
        """Remove what a killed process left: files half-written, and tensors without an answer.

        Only while nobody writes answers.

        Args:
            folder: The outbox of all terms.

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
    def is_kept(folder: Path, request: Digest, *, terms: Digest) -> bool:
        """Whether a request was answered under these terms; for another process than the writer.

        Args:
            folder: The outbox of all terms.
            request: Digest of the request.
            terms: Digest of what decides which answers may leave.
        """
        return _header(_of_terms(folder, terms), request).is_file()

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
        headers = sorted(self._folder.glob("*.json"), key=lambda one: one.stat().st_mtime_ns)
        for old in headers[: -self._keep]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)


def _of_terms(folder: Path, terms: Digest) -> Path:
    return folder / terms[:_TERMS_LETTERS]


def _header(folder: Path, request: Digest) -> Path:
    return folder / f"{request}.json"
