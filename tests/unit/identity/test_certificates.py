"""The consortium's authority and the server's certificate."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from consortium import DAY, NAME, NOW
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedvol.errors import CertificateError, KeyFileError
from fedvol.identity import Authority, NodeKey
from fedvol.identity.certificates import (
    AUTHORITY_DAYS,
    MAX_SERVER_DAYS,
    certificate_from_text,
    certificate_text,
)

HOSTS = ("server.example.org", "localhost", "127.0.0.1", "::1")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority.pem", consortium=NAME, now=NOW)


@pytest.fixture
def issued(authority: Authority, tmp_path: Path) -> Path:
    authority.issue(tmp_path / "tls.pem", hosts=HOSTS, now=NOW)
    return tmp_path / "tls.pem"


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and IP addresses that a certificate is for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_an_authority_signs_servers_and_nothing_below_them(authority: Authority) -> None:
    found = x509.load_pem_x509_certificate(authority.certificate_pem)
    basic = found.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    assert (usage.value.key_cert_sign, usage.value.digital_signature) == (True, False)
    assert found.not_valid_after_utc == NOW + timedelta(days=AUTHORITY_DAYS)
    assert b"PRIVATE" not in authority.certificate_pem


def test_a_server_certificate_is_for_its_hosts_and_not_for_long(issued: Path) -> None:
    found = _certificate(issued)
    assert hosts_of(found) == HOSTS
    assert found.not_valid_before_utc == NOW - timedelta(hours=1)
    assert found.not_valid_after_utc == NOW + timedelta(days=397)
    basic = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not basic.ca
    key = found.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    private = load_pem_private_key(issued.read_bytes(), None)
    assert private.public_key() == key


def test_both_files_are_their_owners(issued: Path, tmp_path: Path) -> None:
    for path in (issued, tmp_path / "authority.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_replaced_unasked(authority: Authority, issued: Path, tmp_path: Path) -> None:
    before = issued.read_bytes(), (tmp_path / "authority.pem").read_bytes()
    with pytest.raises(KeyFileError, match="there already"):
        authority.issue(issued, hosts=HOSTS, now=NOW)
    with pytest.raises(KeyFileError, match="there already"):
        Authority.create(tmp_path / "authority.pem", consortium=NAME, now=NOW)
    assert before == (issued.read_bytes(), (tmp_path / "authority.pem").read_bytes())


def test_renewing_replaces_certificate_and_key(authority: Authority, issued: Path) -> None:
    old = _certificate(issued)
    authority.renew(issued, hosts=HOSTS[:1], now=NOW + 300 * DAY, days=90)
    new = _certificate(issued)
    assert hosts_of(new) == HOSTS[:1]
    assert new.public_key() != old.public_key()
    assert new.serial_number != old.serial_number
    assert new.not_valid_after_utc == NOW + 390 * DAY
    assert stat.S_IMODE(issued.stat().st_mode) == 0o600


def test_a_lost_one_is_renewed_too(authority: Authority, tmp_path: Path) -> None:
    authority.renew(tmp_path / "lost.pem", hosts=HOSTS, now=NOW)
    assert hosts_of(_certificate(tmp_path / "lost.pem")) == HOSTS
    assert stat.S_IMODE((tmp_path / "lost.pem").stat().st_mode) == 0o600


def test_a_crash_while_renewing_keeps_the_old(
    authority: Authority, issued: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = issued.read_bytes()

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        authority.renew(issued, hosts=HOSTS, now=NOW)
    assert issued.read_bytes() == before


def test_no_certificate_outlives_its_authority(authority: Authority, tmp_path: Path) -> None:
    end = NOW + timedelta(days=AUTHORITY_DAYS)
    authority.issue(tmp_path / "late.pem", hosts=HOSTS, now=end - DAY)
    assert _certificate(tmp_path / "late.pem").not_valid_after_utc == end
    with pytest.raises(CertificateError, match="it ended on 2036-05-29"):
        authority.issue(tmp_path / "later.pem", hosts=HOSTS, now=end)


@pytest.mark.parametrize("hosts", [(), ("a b",), ("https://a",), ("a:443",), ("10.0.0.256",)])
def test_a_malformed_host_is_refused(
    hosts: tuple[str, ...], authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(CertificateError):
        authority.issue(tmp_path / "tls.pem", hosts=hosts, now=NOW)
    assert not (tmp_path / "tls.pem").exists()


@pytest.mark.parametrize("days", [-1, 0, MAX_SERVER_DAYS + 1])
def test_a_certificate_holds_one_to_397_days(
    days: int, authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(CertificateError, match="1 to 397 days"):
        authority.issue(tmp_path / "tls.pem", hosts=HOSTS, now=NOW, days=days)


def test_an_authority_is_loaded_again(authority: Authority, tmp_path: Path) -> None:
    loaded = Authority.load(tmp_path / "authority.pem")
    assert loaded.certificate_pem == authority.certificate_pem
    loaded.issue(tmp_path / "tls.pem", hosts=HOSTS, now=NOW)
    signed = _certificate(tmp_path / "tls.pem")
    signed.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate_pem))


def test_an_authority_open_to_others_is_refused(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "authority.pem").chmod(0o644)
    with pytest.raises(KeyFileError, match="mode 0644"):
        Authority.load(tmp_path / "authority.pem")


def test_a_broken_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "authority.pem"
    key, _, _ = path.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    other = Authority.create(tmp_path / "other.pem", consortium=NAME, now=NOW)
    path.write_bytes(key + other.certificate_pem)
    with pytest.raises(CertificateError, match="do not belong together"):
        Authority.load(path)
    path.write_bytes(key)
    with pytest.raises(CertificateError, match="no certificate to read"):
        Authority.load(path)
    NodeKey.create(tmp_path / "node.pem")
    with pytest.raises(CertificateError):
        Authority.load(tmp_path / "node.pem")


def test_a_long_or_foreign_name_is_no_trouble(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "a.pem", consortium="Ü" * 100, now=datetime.now(UTC))
    made.issue(tmp_path / "tls.pem", hosts=HOSTS, now=datetime.now(UTC))


def test_a_certificate_fits_a_line(authority: Authority) -> None:
    text = certificate_text(authority.certificate_pem)
    assert certificate_from_text(text) == authority.certificate_pem
    for damaged in ("", "AAAA", text[:-8], f"{text[:40]}!{text[41:]}"):
        with pytest.raises(CertificateError):
            certificate_from_text(damaged)
