"""A certificate is checked as a client would check it, before any client does."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from consortium import NAME
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from fedvol.errors import CertificateError, KeyFileError
from fedvol.identity import (
    Authority,
    check_server_certificate,
    client_context,
    server_context,
)

HOSTS = ("server.example.org", "127.0.0.1")
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority.create(folder / "authority.pem", consortium=NAME, now=NOW)


@pytest.fixture(scope="module")
def issued(authority: Authority, folder: Path) -> Path:
    authority.issue(folder / "tls.pem", hosts=HOSTS, now=NOW)
    return folder / "tls.pem"


def _divided(path: Path, folder: Path) -> tuple[Path, Path]:
    """Certificate and key in files of their own, as an operator brings them."""
    key, mark, rest = path.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    (folder / "own.key").write_bytes(key)
    (folder / "own.crt").write_bytes(mark + rest)
    return folder / "own.crt", folder / "own.key"


@pytest.mark.parametrize("host", HOSTS)
def test_a_good_one_passes(host: str, issued: Path, authority: Authority) -> None:
    pem = authority.certificate_pem
    ends = check_server_certificate(issued, authority_pem=pem, host=host)
    assert ends == (NOW + timedelta(days=397)).replace(microsecond=0)


def test_an_operators_own_files_pass(issued: Path, authority: Authority, tmp_path: Path) -> None:
    certificate, key = _divided(issued, tmp_path)
    pem = authority.certificate_pem
    assert check_server_certificate(certificate, key, authority_pem=pem, host=HOSTS[0])


def test_ours_pass_the_strictest_reading(issued: Path, authority: Authority) -> None:
    from fedvol.identity.tls import _shake_hands

    client = client_context(authority.certificate_pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    _shake_hands(server_context(issued), client, host=HOSTS[0])


@pytest.mark.parametrize("host", ["other.example.org", "example.org", "127.0.0.2", "::1"])
def test_another_host_is_told(host: str, issued: Path, authority: Authority) -> None:
    with pytest.raises(CertificateError, match=f"for {host}: no client would accept it") as caught:
        check_server_certificate(issued, authority_pem=authority.certificate_pem, host=host)
    assert "that clients use" in caught.value.fix


@pytest.mark.parametrize(
    ("now", "told"),
    [(NOW - 60 * DAY, "certificate has expired"), (NOW + DAY, "certificate is not yet valid")],
)
def test_another_time_is_told(now: datetime, told: str, tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "authority.pem", consortium=NAME, now=NOW - 90 * DAY)
    authority.issue(tmp_path / "tls.pem", hosts=HOSTS, now=now, days=30)
    with pytest.raises(CertificateError, match=told) as caught:
        check_server_certificate(
            tmp_path / "tls.pem", authority_pem=authority.certificate_pem, host=HOSTS[0]
        )
    assert "clock" in caught.value.fix


def test_another_authority_is_told(issued: Path, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "authority.pem", consortium=NAME, now=NOW)
    with pytest.raises(CertificateError, match="no client would accept it") as caught:
        check_server_certificate(issued, authority_pem=other.certificate_pem, host=HOSTS[0])
    assert "authority that signed it" in caught.value.fix


def test_another_key_is_told(issued: Path, authority: Authority, tmp_path: Path) -> None:
    certificate, key = _divided(issued, tmp_path)
    authority.issue(tmp_path / "second.pem", hosts=HOSTS, now=NOW)
    with pytest.raises(CertificateError, match="do not belong together"):
        server_context(certificate, tmp_path / "second.pem")
    assert server_context(certificate, key).minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.timeout(30)
def test_a_key_with_a_passphrase_is_told_and_nobody_asked(issued: Path, tmp_path: Path) -> None:
    certificate, key = _divided(issued, tmp_path)
    private = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(CertificateError, match="unencrypted key"):
        server_context(certificate, key)


def test_files_that_are_none_are_told(issued: Path, authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="cannot be read"):
        server_context(tmp_path / "absent.pem", issued)
    with pytest.raises(KeyFileError, match="cannot be read"):
        server_context(tmp_path / "absent.pem")
    (tmp_path / "text.pem").touch(mode=0o600)
    (tmp_path / "text.pem").write_text("text")
    with pytest.raises(CertificateError, match="no certificate in PEM"):
        server_context(tmp_path / "text.pem")
    (tmp_path / "open.pem").write_bytes(issued.read_bytes())
    (tmp_path / "open.pem").chmod(0o640)
    with pytest.raises(KeyFileError, match="mode 0640"):
        server_context(tmp_path / "open.pem")
    for pem in (b"", b"text", authority.certificate_pem[:100]):
        with pytest.raises(CertificateError, match="no certificate to read"):
            client_context(pem)


def test_both_ends_want_tls_1_3_and_the_client_checks_everything(
    issued: Path, authority: Authority
) -> None:
    server, client = server_context(issued), client_context(authority.certificate_pem)
    assert {server.minimum_version, client.minimum_version} == {ssl.TLSVersion.TLSv1_3}
    assert client.check_hostname
    assert client.verify_mode is ssl.CERT_REQUIRED
    assert len(client.get_ca_certs()) == 1


def test_of_a_bundle_the_first_certificate_alone_is_trusted(
    issued: Path, authority: Authority, tmp_path: Path
) -> None:
    """People were shown the first; whoever slips in another must not be believed."""
    other = Authority.create(tmp_path / "other.pem", consortium=NAME, now=NOW)
    ours, theirs = authority.certificate_pem, other.certificate_pem
    assert len(client_context(ours + theirs).get_ca_certs()) == 1
    check_server_certificate(issued, authority_pem=ours + theirs, host=HOSTS[0])
    with pytest.raises(CertificateError, match="no client would accept it"):
        check_server_certificate(issued, authority_pem=theirs + ours, host=HOSTS[0])
