"""`server.toml` gives a configuration, or one error that names every problem."""

from pathlib import Path

import pytest

from fedvol.config.server import CertificateFiles, OwnAuthority
from fedvol.config.server_loading import load_server, parse_server
from fedvol.errors import ConfigFileError, ServerFileError

GOOD = """
version = 1
consortium = "Liver"
address = "server.example.org:443"

[listen]
port = 8443
"""


def problems(text: str) -> dict[str, str]:
    with pytest.raises(ServerFileError) as caught:
        parse_server(text, where="server.toml")
    assert caught.value.exit_status == 2
    assert all(problem.fix for problem in caught.value.problems)
    return {problem.where: problem.what for problem in caught.value.problems}


def test_a_short_file_has_defaults() -> None:
    config = parse_server(GOOD, where="server.toml")
    assert (config.listen.host, config.listen.port) == ("0.0.0.0", 8443)
    assert isinstance(config.certificate, OwnAuthority)
    assert config.store.url is None


def test_certificate_files() -> None:
    text = GOOD + '[certificate]\nkind = "files"\nchain = "a"\nkey = "b"\nauthority = "c"\n'
    config = parse_server(text, where="server.toml")
    assert config.certificate == CertificateFiles(kind="files", chain="a", key="b", authority="c")


def test_every_problem_is_told_at_once() -> None:
    text = """
version = 1
consortum = "Liver"
address = "server.example.org"

[listen]
host = "everywhere"
port = 9092

[joining]
invitation_days = 0

[store]
url = "mysql://host/name"
"""
    assert set(problems(text)) == {
        "consortium",
        "consortum",
        "address",
        "listen.host",
        "listen.private_port",
        "joining.invitation_days",
        "store.url",
    }


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:0", "host:70000", "host:https", "ho st:443", "::1:443", "1.2.3:443"],
)
def test_what_is_no_address(address: str) -> None:
    text = GOOD.replace("server.example.org:443", address)
    assert set(problems(text)) == {"address"}


@pytest.mark.parametrize("address", ["10.0.0.1:443", "[::1]:443", "fl.hospital.example:9999"])
def test_what_is_an_address(address: str) -> None:
    text = GOOD.replace("server.example.org:443", address)
    assert parse_server(text, where="server.toml").address == address


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="no such file"):
        load_server(tmp_path / "server.toml")
    with pytest.raises(ConfigFileError, match="line 1"):
        parse_server("version = = 1", where="server.toml")


@pytest.mark.parametrize(
    ("store", "wrong"),
    [
        ('url = "postgresql+psycopg://fedvol@db.example/fedvol"', set()),
        ('url = "postgresql+psycopg://fedvol@db/fedvol"\npassword_file = "keys/pw"', set()),
        ('url = "postgresql+psycopg://fedvol:pass@db.example/fedvol"', {"store.url"}),
        ('url = "postgresql+psycopg://db/fedvol?user=a&password=b"', {"store.url"}),
        ('password_file = "keys/pw"', {"store.password_file"}),
        ('url = "sqlite:///a.db"\npassword_file = "keys/pw"', {"store.password_file"}),
        ('url = "postgresql+psycopg://[::1/fedvol"', {"store.url"}),
    ],
)
def test_the_file_holds_no_password(store: str, wrong: set[str]) -> None:
    text = f"{GOOD}\n[store]\n{store}\n"
    if wrong:
        assert set(problems(text)) == wrong
    else:
        assert parse_server(text, where="server.toml").store.url
