"""TLS 1.3 contexts for both ends, and the check of a certificate before anybody depends on it."""

import ssl
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from fedvol.errors import CertificateError
from fedvol.identity.certificates import parse_certificate
from fedvol.identity.key_files import read_secret

_FIXES = {
    9: "Check this machine's clock; if it is right, wait, or make a new certificate.",
    10: "Check this machine's clock; if it is right: fedvol server renew FOLDER, or put new "
    "files in the place of your own.",
    62: "Make a certificate for the name that clients use, or give clients a name in it.",
    64: "Make a certificate for the IP address that clients use, or give clients a name in it.",
}
"""OpenSSL's verification codes that have a better advice than the general one."""


def server_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.3 for a server; calling `load_cert_chain` on it again renews without a restart.

    Args:
        certificate: PEM of the certificate, with intermediate ones behind it.
        key: PEM of its key; absent: in the same file, which is then its owner's alone. How an
            operator guards a key file of their own is theirs to say.

    Raises:
        KeyFileError: The one file is absent or open to others.
        CertificateError: A file cannot be read, or key and certificate do not belong together.
    """
    if key is None:
        read_secret(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        # An empty password: a key with one fails, rather than ask a terminal nobody watches.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = (
            "key and certificate do not belong together"
            if error.reason == "KEY_VALUES_MISMATCH"
            else "it is no certificate in PEM with its unencrypted key"
        )
        raise CertificateError(str(certificate), reason, "Name the right files.") from error
    except OSError as error:
        raise CertificateError(
            str(certificate),
            f"certificate or key cannot be read ({error.strerror})",
            "Check paths and permissions.",
        ) from error
    return context


def client_context(authority_pem: bytes) -> ssl.SSLContext:
    """TLS 1.3 for a client that trusts this one authority and checks the server's name.

    Of several certificates in the PEM the first alone is trusted: it is what people were shown.

    Raises:
        CertificateError: It is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    authority = parse_certificate(authority_pem, where="authority's certificate")
    context.load_verify_locations(cadata=authority.public_bytes(Encoding.DER))
    return context


def check_server_certificate(
    certificate: Path, key: Path | None = None, *, authority_pem: bytes, host: str
) -> datetime:
    """Make sure that clients will accept a server's certificate, by a handshake in memory.

    It is what will be asked on the wire, no more and no less: that the key fits, that the authority
    signed it, that it holds now, and that it is for this host.

    Args:
        certificate: PEM of the certificate.
        key: PEM of its key; absent: in the same file.
        authority_pem: The authority that clients will trust.
        host: DNS name or IP address that clients will use.

    Returns:
        When it ends, UTC.

    Raises:
        KeyFileError: The one file is absent or open to others.
        CertificateError: They will not; says why.
    """
    server, client = server_context(certificate, key), client_context(authority_pem)
    try:
        _shake_hands(server, client, host=host)
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(
            f"{certificate}, for {host}",
            f"no client would accept it: {error.verify_message.rstrip('.')}",
            _FIXES.get(error.verify_code, "Name the authority that signed it, or the chain to it."),
        ) from error
    return parse_certificate(certificate.read_bytes(), where=str(certificate)).not_valid_after_utc


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, *, host: str) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=host),
        server.wrap_bio(up, down, server_side=True),
    ]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
