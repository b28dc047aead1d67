"""From `server.toml` to a `ServerConfig`, with every problem told at once."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from fedvol.config.addresses import is_ip_address, split_address
from fedvol.config.findings import read_model
from fedvol.config.loading import parse_toml, read_text
from fedvol.config.server import ServerConfig
from fedvol.errors import Problem, ServerFileError


def load_server(path: Path) -> ServerConfig:
    """Read and check a server's file.

    Raises:
        ConfigFileError: The file is absent, no file, too large, not UTF-8 or not TOML.
        ServerFileError: It breaks its schema or contradicts itself; carries every problem.
    """
    return parse_server(read_text(path), where=str(path))


def parse_server(text: str, *, where: str) -> ServerConfig:
    """Read and check a server's file given as TOML text.

    Args:
        text: The TOML document.
        where: How messages call it, normally the file's path.

    Raises:
        ConfigFileError: The text is not TOML.
        ServerFileError: It breaks its schema or contradicts itself; carries every problem.
    """
    document = parse_toml(text, where=where)
    read = read_model(document, ServerConfig)
    found = [*read.problems, *_cross_checks(document, spots=read.spots)]
    if read.value is None or found:
        raise ServerFileError(where, found)
    return read.value


def _cross_checks(document: dict[str, Any], *, spots: Collection[str]) -> list[Problem]:
    """What the schema cannot say; told whether or not the rest of the file is right."""
    found: list[Problem] = []
    address = document.get("address")
    if isinstance(address, str) and "address" not in spots:
        try:
            split_address(address)
        except ValueError as error:
            fix = "Write it as hospitals reach the server."
            found.append(Problem(where="address", what=str(error), fix=fix))
    found += _store_checks(document.get("store"), spots=spots)
    if not isinstance(document.get("listen"), dict):
        return found
    listen: dict[str, Any] = document["listen"]
    host = listen.get("host", "0.0.0.0")  # noqa: S104  # compared, not listened on
    if isinstance(host, str) and "listen.host" not in spots and not is_ip_address(host):
        found.append(
            Problem(
                where="listen.host",
                what="not an IP address",
                fix="Write an address of this machine; 0.0.0.0 is all of them.",
            )
        )
    port, private = listen.get("port"), listen.get("private_port", 9092)
    if isinstance(port, int) and port == private:
        found.append(
            Problem(
                where="listen.private_port",
                what="the same as the public port",
                fix="Choose another; it is reached from this machine alone.",
            )
        )
    return found


def _store_checks(store: object, *, spots: Collection[str]) -> list[Problem]:
    if not isinstance(store, dict):
        return []
    found: list[Problem] = []
    settings = cast("dict[str, Any]", store)
    url = settings.get("url")
    if isinstance(url, str) and "store.url" not in spots and (what := _wrong_url(url)):
        found.append(
            Problem(
                where="store.url",
                what=what,
                fix="Write postgresql+psycopg://USER@HOST/NAME, and name a file with the password "
                "as store.password_file.",
            )
        )
    if "password_file" in settings and (url is None or str(url).startswith("sqlite:")):
        found.append(
            Problem(
                where="store.password_file",
                what="SQLite has no password",
                fix="Leave it out, or name a PostgreSQL in store.url.",
            )
        )
    return found


def _wrong_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "not an address of a database"
    has_password = parts.password is not None or "password" in parse_qs(parts.query)
    return "it holds a password" if has_password else ""
