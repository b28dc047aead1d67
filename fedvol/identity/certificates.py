"""The server's TLS certificate, and the consortium's own authority that signs it.

An authority is for one consortium and one server: clients trust it and nothing else on that link,
so no public authority can vouch for an impostor. Key and certificate lie in one PEM file, mode
0600, so that a crash can never leave a key beside another's certificate.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedvol.config.addresses import is_ip_address, require_host
from fedvol.errors import CertificateError
from fedvol.files import write_atomic
from fedvol.identity.key_files import key_pem, read_key, read_secret, write_secret, wrong_kind
from fedvol.identity.moments import CLOCK_SLACK

AUTHORITY_DAYS = 3650
MAX_SERVER_DAYS = 397
"""The longest that the CA/Browser Forum allowed for years; renewing is one command."""
_MAX_NAME_BYTES = 64


class Authority:
    """A consortium's certificate authority; its key stays with the server.

    Args:
        private: Its key; use `create` or `load`.
        certificate: Its certificate.
    """

    def __init__(self, private: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._private = private
        self._certificate = certificate

    @classmethod
    def create(cls, path: Path, *, consortium: str, now: datetime) -> Self:
        """Make an authority for ten years and write it to a new file, mode 0600.

        Raises:
            KeyFileError: A file is there already.
            StoreError: The folder cannot be written.
        """
        private = ec.generate_private_key(ec.SECP256R1())
        name = _named(f"fedvol authority of {consortium}")
        key_id = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
        certificate = (
            x509.CertificateBuilder(issuer_name=name, subject_name=name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SLACK)
            .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(key_id, critical=False)
            .sign(private, SHA256())
        )
        write_secret(path, key_pem(private) + certificate.public_bytes(Encoding.PEM))
        return cls(private, certificate)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an authority.

        Raises:
            KeyFileError: The file is absent, open to others or damaged.
            CertificateError: Its certificate is damaged or of another key.
        """
        private = read_key(path)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise wrong_kind(path, wanted="EC")
        certificate = parse_certificate(read_secret(path), where=str(path))
        if certificate.public_key() != private.public_key():
            raise CertificateError(
                str(path), "key and certificate do not belong together", "Restore a backup of it."
            )
        return cls(private, certificate)

    @property
    def certificate_pem(self) -> bytes:
        """What clients trust; no secret."""
        return self._certificate.public_bytes(Encoding.PEM)

    def issue(
        self, path: Path, *, hosts: Sequence[str], now: datetime, days: int = MAX_SERVER_DAYS
    ) -> None:
        """Make the server a key with a certificate and write both to a new file, mode 0600.

        Args:
            path: The file; uvicorn takes it as certificate and as key.
            hosts: DNS names and IP addresses under which clients reach the server.
            now: The time, with its zone.
            days: How long it holds, at most 397.

        Raises:
            CertificateError: No host, a malformed one, too many days, or the authority has ended.
            KeyFileError: A file is there already.
            StoreError: The folder cannot be written.
        """
        write_secret(path, self._issued(hosts, now=now, days=days))

    def renew(
        self, path: Path, *, hosts: Sequence[str], now: datetime, days: int = MAX_SERVER_DAYS
    ) -> None:
        """Put a new key and certificate in the place of the old, which may be lost; atomic.

        Args:
            path: The file.
            hosts: DNS names and IP addresses under which clients reach the server.
            now: The time, with its zone.
            days: How long it holds, at most 397.

        Raises:
            CertificateError: No host, a malformed one, too many days, or the authority has ended.
            StoreError: The folder cannot be written.
        """
        write_atomic(path, self._issued(hosts, now=now, days=days), mode=0o600)

    def _issued(self, hosts: Sequence[str], *, now: datetime, days: int) -> bytes:
        _require_issuable(hosts, days=days)
        if now >= self._certificate.not_valid_after_utc:
            raise CertificateError(
                "authority's certificate",
                f"it ended on {self._certificate.not_valid_after_utc:%Y-%m-%d}",
                "Make a new server, which has a new authority, and invite every site again.",
            )
        private = ec.generate_private_key(ec.SECP256R1())
        public = private.public_key()
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._private.public_key()
        )
        end = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        certificate = (
            x509.CertificateBuilder(
                issuer_name=self._certificate.subject, subject_name=_named("fedvol server")
            )
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SLACK)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(authority_id, critical=False)
            .sign(self._private, SHA256())
        )
        return key_pem(private) + certificate.public_bytes(Encoding.PEM)


def parse_certificate(data: bytes, *, where: str) -> x509.Certificate:
    """The first certificate in PEM text.

    Raises:
        CertificateError: There is none, or it is damaged.
    """
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise _unreadable(where) from error


def certificate_text(pem: bytes) -> str:
    """The first certificate of PEM text as one line: DER in base64.

    Raises:
        CertificateError: There is none, or it is damaged.
    """
    certificate = parse_certificate(pem, where="authority's certificate")
    return b64encode(certificate.public_bytes(Encoding.DER)).decode()


def certificate_from_text(text: str) -> bytes:
    """The PEM of a certificate given as one line.

    Raises:
        CertificateError: It is damaged.
    """
    try:
        der = b64decode(text, validate=True)
        return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    except ValueError as error:
        raise _unreadable("authority's certificate") from error


def _unreadable(where: str) -> CertificateError:
    return CertificateError(where, "there is no certificate to read", "Name a certificate in PEM.")


def _require_issuable(hosts: Sequence[str], *, days: int) -> None:
    if not hosts:
        raise CertificateError(
            "server's certificate", "no host is named", "Name the addresses that clients will use."
        )
    for host in hosts:
        try:
            require_host(host)
        except ValueError as error:
            raise CertificateError(
                f"host {host}", str(error), "Write it as clients will, without port."
            ) from error
    if not 0 < days <= MAX_SERVER_DAYS:
        raise CertificateError(
            "server's certificate",
            f"it would hold for {days} days",
            f"Choose 1 to {MAX_SERVER_DAYS} days.",
        )


def _general(host: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(host)) if is_ip_address(host) else x509.DNSName(host)


def _named(name: str) -> x509.Name:
    name = name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
