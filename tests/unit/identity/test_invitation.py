"""One line brings a hospital in, once and in time; a damaged one is told at once."""

import re
import string
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from consortium import DAY, NAME, NOW, ROOT
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedvol.errors import (
    CertificateError,
    InvitationError,
    InvitationExpiredError,
)
from fedvol.identity import Authority, Invitation, token_digest
from fedvol.identity.documents import write_document
from fedvol.identity.invitation import MAX_LINE, PREFIX
from fedvol.identity.tags import tagged_digest

ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    path = tmp_path_factory.mktemp("authority") / "authority.pem"
    return Authority.create(path, consortium=NAME, now=NOW)


def _new(authority: Authority, **other: object) -> Invitation:
    fields: dict[str, object] = {
        "consortium": NAME,
        "site": "site-a",
        "server": "server.example.org:443",
        "authority_pem": authority.certificate_pem,
        "root": ROOT.public,
        "expires": NOW + DAY,
    }
    return Invitation.new(**{**fields, **other})


@pytest.fixture(scope="module")
def invitation(authority: Authority) -> Invitation:
    return _new(authority)


def _line_of(data: bytes) -> str:
    check_sum = tagged_digest("invitation", data)[:8]
    return PREFIX + urlsafe_b64encode(data + check_sum).decode().rstrip("=")


def test_the_line_says_it_all(invitation: Invitation, authority: Authority) -> None:
    line = invitation.line()
    assert re.fullmatch(r"fedvol-invite-1:[A-Za-z0-9_-]+", line)
    assert len(line) < 2000
    parsed = Invitation.parse(line)
    assert parsed == invitation
    assert parsed.authority_pem == authority.certificate_pem
    assert (parsed.root, parsed.site, parsed.server) == (
        ROOT.public,
        "site-a",
        "server.example.org:443",
    )


def test_line_breaks_of_a_mail_do_no_harm(invitation: Invitation) -> None:
    line = invitation.line()
    wrapped = "\r\n ".join(line[at : at + 72] for at in range(0, len(line), 72))
    assert Invitation.parse(f"  {wrapped}\n") == invitation


def test_each_token_is_another(authority: Authority) -> None:
    assert len({_new(authority).token for _ in range(8)}) == 8


def test_every_changed_letter_is_told(invitation: Invitation) -> None:
    line = invitation.line()
    for at, letter in enumerate(line):
        for other in ("A", "x", "_"):
            if other != letter:
                with pytest.raises(InvitationError, match="the line is damaged"):
                    Invitation.parse(line[:at] + other + line[at + 1 :])


def test_every_last_letter_but_one_is_told(invitation: Invitation) -> None:
    """Base64 leaves spare bits in it, which a decoder passes over."""
    line = invitation.line()
    held = [letter for letter in ALPHABET if _holds(line[:-1] + letter)]
    assert held == [line[-1]]


def _holds(line: str) -> bool:
    try:
        Invitation.parse(line)
    except InvitationError:
        return False
    return True


def test_every_cut_and_every_swap_is_told(invitation: Invitation) -> None:
    line = invitation.line()
    for at in range(len(line)):
        assert not _holds(line[:at])
        if at and line[at] != line[at - 1]:
            assert not _holds(line[: at - 1] + line[at] + line[at - 1] + line[at + 1 :])
    for more in (line + "A", line + "!", line + "=", line + line, "x" + line):
        assert not _holds(more)


@given(st.text(max_size=50))
def test_anything_else_is_told(text: str) -> None:
    assert not _holds(text)
    assert not _holds(PREFIX + text)


def test_another_version_is_told(invitation: Invitation) -> None:
    with pytest.raises(InvitationError, match="does not begin with fedvol-invite-1:"):
        Invitation.parse(invitation.line().replace("invite-1", "invite-2"))


@pytest.mark.parametrize("length", [0, 7, 8])
def test_what_is_shorter_than_its_check_sum_is_told(length: int) -> None:
    assert not _holds(PREFIX + urlsafe_b64encode(bytes(length)).decode().rstrip("="))


def test_a_whole_line_with_wrong_content_is_told(invitation: Invitation) -> None:
    data = write_document(invitation)
    assert Invitation.parse(_line_of(data)) == invitation
    for old, new in (
        (b'"site":"site-a"', b'"site":"../site"'),
        (b'"server":"server.example.org:443"', b'"server":"nowhere"'),
        (b'"token":"', b'"token":"x'),
        (b'{"authority"', b'{"a":1,"authority"'),
        (b'{"authority"', b'{ "authority"'),
        (b'"authority":"', b'"authority":"AAAA'),
    ):
        assert old in data
        with pytest.raises((InvitationError, CertificateError)):
            Invitation.parse(_line_of(data.replace(old, new)))


def test_a_line_too_long_for_a_terminal_is_not_made(invitation: Invitation) -> None:
    long = invitation.model_copy(update={"authority": "A" * MAX_LINE})
    with pytest.raises(InvitationError, match="a terminal takes"):
        long.line()
    with pytest.raises(InvitationError, match="too long"):
        Invitation.parse(PREFIX + "A" * (MAX_LINE + 1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"site": "a b"},
        {"server": "server"},
        {"consortium": ""},
        {"expires": NOW.replace(tzinfo=None)},
    ],
    ids=str,
)
def test_a_malformed_invitation_is_not_made(authority: Authority, wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _new(authority, **wrong)
    with pytest.raises(CertificateError):
        _new(authority, authority_pem=b"none")


def test_it_expires(invitation: Invitation) -> None:
    from datetime import timedelta

    invitation.require_valid(NOW + DAY - timedelta(seconds=1))
    with pytest.raises(InvitationExpiredError, match="2026-06-02T12:00:00Z"):
        invitation.require_valid(NOW + DAY)


def test_the_token_is_not_shown(invitation: Invitation) -> None:
    for shown in (repr(invitation), str(invitation), token_digest(invitation.token)):
        assert invitation.token not in shown


def test_a_large_authority_still_fits_a_line(invitation: Invitation, tmp_path: Path) -> None:
    """An RSA-4096 authority of a hospital's own."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(65537, 4096)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hospital Root Authority " * 2)])
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    large = Invitation.new(
        consortium=NAME,
        site="site-a",
        server=invitation.server,
        authority_pem=pem,
        root=ROOT.public,
        expires=NOW + DAY,
    )
    assert Invitation.parse(large.line()).authority_pem == pem
