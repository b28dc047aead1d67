"""`RootFolder`: the consortium's root on its offline machine, and every roster it signed.

The folder holds `root.pem` (the key), `root.json` (name and public key: what an operator needs of
it) and `rosters/<version>.json`, one file a version, never replaced. A roster is kept here before
it is handed out, so no version is given twice.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from fedvol.config.base import Section
from fedvol.errors import KeyFileError, RosterConflictError, RosterError, UsageError
from fedvol.files import locked_folder, write_new
from fedvol.identity.acceptance import MAX_ROSTER_BYTES, SignedRoster
from fedvol.identity.documents import read_document, read_file, write_document
from fedvol.identity.keys import IdentityKey, PublicKeyField
from fedvol.identity.roster import Consortium, Roster, malformed_roster

_KEY, _RECORD, _ROSTERS = "root.pem", "root.json", "rosters"
_LIMIT_BYTES = 1 << 16


class RootRecord(Section):
    """What an operator needs of a root; no secret."""

    format: Literal["fedvol.root/1"] = "fedvol.root/1"
    """Version of this schema."""
    consortium: Consortium
    """Whose root it is."""
    root: PublicKeyField
    """Its public key."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read `root.json`.

        Raises:
            RosterError: It is absent or malformed.
        """
        try:
            data = read_file(path, limit_bytes=_LIMIT_BYTES)
            return read_document(cls, data, limit_bytes=_LIMIT_BYTES)
        except ValueError as error:
            raise RosterError(
                str(path), f"this is no record of a root: {error}", "Copy it again from the root."
            ) from error


class RootFolder:
    """A root that can sign; use `create` once, `opened` from then on.

    Args:
        folder: Its folder.
        key: Its key.
        record: Its public part.
    """

    def __init__(self, folder: Path, *, key: IdentityKey, record: RootRecord) -> None:
        self._rosters = folder / _ROSTERS
        self._key = key
        self.record = record

    @classmethod
    def create(cls, folder: Path, *, consortium: str, passphrase_file: Path | None = None) -> Self:
        """Make a root: its key and its record.

        Raises:
            UsageError: The name cannot be a consortium's.
            KeyFileError: There is a root already, or the passphrase cannot be used.
            StoreError: The folder cannot be written.
        """
        try:
            TypeAdapter[str](Consortium).validate_python(consortium)
        except ValidationError as error:
            raise UsageError(
                "consortium",
                "a name has 1 to 100 letters, no line breaks, and no space at its ends",
                "Choose such a name.",
            ) from error
        key = IdentityKey.create(folder / _KEY, passphrase_file=passphrase_file)
        record = RootRecord(consortium=consortium, root=key.public)
        write_new(folder / _RECORD, write_document(record), mode=0o644)
        return cls(folder, key=key, record=record)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, *, passphrase_file: Path | None = None) -> Generator[Self]:
        """Hold a root's folder against a second process, with its key loaded.

        Raises:
            FolderLockedError: Another process holds it.
            KeyFileError: The key cannot be read, or is not the one of the record.
            RosterError: The record cannot be read.
        """
        record = RootRecord.read(folder / _RECORD)
        with locked_folder(folder):
            key = IdentityKey.load(folder / _KEY, passphrase_file=passphrase_file)
            if key.public != record.root:
                raise KeyFileError(
                    str(folder / _KEY),
                    f"it is not the key that {_RECORD} beside it names",
                    "Restore the folder from a backup, as a whole.",
                )
            yield cls(folder, key=key, record=record)

    def last(self, *, known: Path | None = None) -> Roster | None:
        """The roster of the highest version that this root signed, as far as is known here.

        Args:
            known: A roster that was handed out, where the folder is an older backup without it.

        Raises:
            RosterError: One is damaged.
            RosterRootError: Another root signed it.
            SignatureError: The signature does not fit.
            RosterConflictError: The folder's last and `known` differ in one version.
        """
        kept = sorted(self._rosters.glob("[0-9]*.json"))
        own = self._opened_roster(kept[-1]) if kept else None
        other = self._opened_roster(known) if known else None
        if own is None or other is None:
            return own or other
        if own.version == other.version and own.digest != other.digest:
            raise RosterConflictError(
                str(known),
                f"version {own.version} in the root's folder is another roster",
                "Somebody signed twice from two copies of the root; find out who, before you sign.",
            )
        return max(own, other, key=lambda roster: roster.version)

    def sign(self, roster: Roster) -> SignedRoster:
        """Sign a roster and keep a copy.

        Raises:
            RosterDuplicateError: The root's own key stands in it.
            RosterConflictError: Its version was signed already.
            StoreError: The copy cannot be written; nothing is signed then.
        """
        signed = SignedRoster.sign(roster, root=self._key)
        path = self.copy_of(roster.version)
        try:
            write_new(path, signed.to_bytes(), mode=0o644)
        except FileExistsError as error:
            raise RosterConflictError(
                str(path), "this version was signed already", "Prepare the next version."
            ) from error
        return signed

    def copy_of(self, version: int) -> Path:
        """Where a signed version is kept."""
        return self._rosters / f"{version:016}.json"

    def _opened_roster(self, path: Path) -> Roster:
        try:
            data = read_file(path, limit_bytes=MAX_ROSTER_BYTES)
        except ValueError as error:
            raise malformed_roster(str(path), str(error)) from error
        return SignedRoster.parse(data, where=str(path)).open(self.record.root, where=str(path))
