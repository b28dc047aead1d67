"""Calling a server's operators' interface from this machine, with the token in a file."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self, cast
from urllib.parse import quote

import typer
from pydantic import Field, ValidationError

from fedvol.config.base import Section
from fedvol.errors import FedvolError, LinkDownError, OperatorRefusedError, UsageError
from fedvol.types import Json

DEFAULT_ACCESS = Path("fedvol-access.json")
AccessFile = Annotated[
    Path, typer.Option("--access", help="File with your token; fedvol server init makes the first.")
]
"""The option of every command that talks to a running server."""

_PREFIX = "/fedvol/operator/v1/"
_TIMEOUT_S = 120.0
_CHUNK_BYTES = 1 << 20


class Access(Section):
    """Who calls which server; a secret."""

    port: Annotated[int, Field(ge=1, le=65535)]
    """The server's private port, on the loopback address."""
    user: str
    """Who calls."""
    token: Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]
    """Proof of it."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an access file.

        Raises:
            UsageError: It is absent, open to others, or no access file.
        """
        fix = "Name your access file with --access; an operator makes one: fedvol user add."
        try:
            if path.stat().st_mode & 0o077:
                raise UsageError(str(path), "others can read it", f"Run: chmod 600 {path}")
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UsageError(str(path), error.strerror or "cannot be read", fix) from error
        except ValidationError as error:
            raise UsageError(str(path), "it is no access file", fix) from error

    def write(self, path: Path) -> None:
        """Write it to a new file, mode 0600.

        Raises:
            UsageError: Something is there already.
        """
        from fedvol.files import write_new

        try:
            write_new(path, self.model_dump_json().encode() + b"\n")
        except FileExistsError as error:
            raise UsageError(
                str(path), "something is there already", "Name a new file for the access."
            ) from error


def run_path(run: str) -> str:
    """Path of a run below the interface's prefix."""
    return f"runs/{quote(run, safe='')}"


class Operators:
    """The operators' interface of one server.

    Args:
        access: Who calls which server.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    @classmethod
    def of(cls, path: Path) -> Self:
        """The interface that an access file is for.

        Raises:
            UsageError: The file cannot be used.
        """
        return cls(Access.read(path))

    @property
    def port(self) -> int:
        """The server's private port."""
        return self._access.port

    def get(self, path: str) -> dict[str, Any]:
        """Look at something.

        Raises:
            FedvolError: The server refuses, or is not there.
        """
        return self._call("GET", path)

    def send(
        self, method: str, path: str, body: dict[str, Json] | bytes | Path | None = None
    ) -> dict[str, Any]:
        """Do something.

        Args:
            method: HTTP method.
            path: Below the interface's prefix.
            body: JSON, bytes, or a file that is sent in pieces.

        Raises:
            FedvolError: The server refuses, or is not there.
        """
        if isinstance(body, dict):
            return self._call(method, path, content=json.dumps(body).encode())
        if isinstance(body, Path):
            return self._call(method, path, content=_pieces(body))
        return self._call(method, path, content=body)

    def _call(
        self, method: str, path: str, *, content: bytes | Iterator[bytes] | None = None
    ) -> dict[str, Any]:
        import httpx

        url = f"http://127.0.0.1:{self._access.port}{_PREFIX}{path}"
        headers = {"authorization": f"Bearer {self._access.token}"}
        try:
            # No proxy of the environment: the server is on this machine.
            with httpx.Client(trust_env=False, timeout=_TIMEOUT_S) as client:
                answer = client.request(method, url, headers=headers, content=content)
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise LinkDownError(
                f"server at 127.0.0.1:{self._access.port}",
                f"it does not answer ({type(error).__name__})",
                "Start it, on this machine: fedvol server start.",
            ) from error
        if answer.status_code != 200:
            raise _refusal(found)
        return cast("dict[str, Any]", found)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _refusal(found: Any) -> FedvolError:
    """The server's error as it would be raised here, with its own code and exit status."""
    fields = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    words = [str(fields.get(name, "")) for name in ("where", "what", "fix")]
    if not all(words):
        return OperatorRefusedError("server", "it refused without a reason", "See its log.")
    kinds = [FedvolError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    for kind in kinds:
        if kind.code == fields.get("code") and kind.__init__ is FedvolError.__init__:
            return kind(*words)
    return FedvolError(*words)
