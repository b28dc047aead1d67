"""How a hospital joins: keys made here, an invitation taken, public keys handed over."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import fedvol
from fedvol.errors import (
    CallRefusedError,
    InvitationError,
    InvitationExpiredError,
    InvitationRefusedError,
    MessageError,
    UsageError,
)
from fedvol.identity import (
    IdentityKey,
    Invitation,
    NodeKey,
    Tag,
    sign_body,
    site_fingerprint,
)
from fedvol.identity.key_files import read_secret
from fedvol.site.folder import SiteFolder
from fedvol.site.toml_text import new_site_text

if TYPE_CHECKING:
    from fedvol.transport.network.site_calls import Answer


class Enrols(Protocol):
    """Brings a site's enrolment to the server; `SiteCalls` over the network."""

    def enrol(self, body: bytes) -> "Answer":
        """Hand it over."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteIdentity:
    """Who a site is, in public.

    Attributes:
        site: Its name.
        consortium: Whom it joins; empty once the invitation was used.
        server: Where the server listens.
        fingerprint: What its people read out to the operator.
    """

    site: str
    consortium: str
    server: str
    fingerprint: str


def init_site(folder: SiteFolder, line: str, *, device: str, now: datetime) -> SiteIdentity:
    """Make a site: its keys, whom it trusts, and its `site.toml`. Nothing is sent.

    What an interrupted call made is used again; keys are never replaced.

    Args:
        folder: Where everything of the site will lie.
        line: The invitation, as the operator gave it.
        device: Where networks will run.
        now: The time.

    Raises:
        UsageError: The folder holds a site already.
        InvitationError: The line is damaged.
        InvitationExpiredError: Its time is over.
        KeyFileError: A key of an earlier attempt cannot be read.
        StoreError: The folder cannot be written.
    """
    if folder.config_file.exists():
        raise UsageError(
            str(folder.folder),
            "it holds a site already",
            "Use it as it is, name another folder, or give `fedvol site enrol` a new invitation.",
        )
    invitation = Invitation.parse(line)
    invitation.require_valid(now)
    identity, node = _identity_key(folder.identity_file), _node_key(folder.node_file)
    folder.resampling_key()
    folder.write(folder.authority_file, invitation.authority_pem)
    folder.write(folder.root_file, f"{invitation.root.hex}\n".encode())
    folder.write(folder.token_file, invitation.line().encode())
    text = new_site_text(site=invitation.site, server=invitation.server, device=device)
    folder.write(folder.config_file, text.encode())
    return SiteIdentity(
        site=invitation.site,
        consortium=invitation.consortium,
        server=invitation.server,
        fingerprint=site_fingerprint(invitation.site, identity=identity.public, node=node.public),
    )


def take_invitation(folder: SiteFolder, line: str, *, now: datetime) -> None:
    """Take a new invitation for a site that is there, in place of one that was lost or too old.

    Raises:
        InvitationError: It is damaged, or for another site or consortium.
        InvitationExpiredError: Its time is over.
    """
    invitation = Invitation.parse(line)
    invitation.require_valid(now)
    config = folder.config()
    for what, given, held in (
        ("another site", invitation.site, config.site),
        ("another server", invitation.server, config.server),
        ("the consortium of another root", invitation.root, folder.root()),
        ("another certificate authority", invitation.authority_pem, folder.authority_pem()),
    ):
        if given != held:
            raise InvitationError(
                f"invitation of {invitation.site}",
                f"it is for {what} than this folder",
                "Ask the operator for one that fits, or make a new site in another folder.",
            )
    folder.write(folder.token_file, invitation.line().encode())


def enrol_site(folder: SiteFolder, server: Enrols, *, now: datetime) -> SiteIdentity:
    """Hand the site's public keys to the server, with the token of the invitation.

    The same call again is answered the same, so an answer that was lost costs nothing.

    Raises:
        UsageError: The invitation was used already.
        InvitationExpiredError: Its time is over.
        InvitationRefusedError: The server does not take it.
        MessageError: The server answers something else.
        LinkDownError: It cannot be reached.
    """
    if not folder.token_file.exists():
        raise UsageError(
            str(folder.folder),
            "there is no unused invitation, so the site has enrolled already",
            "See `fedvol site status`; with a new invitation: --invitation LINE.",
        )
    invitation = Invitation.parse(read_secret(folder.token_file).decode(errors="replace"))
    invitation.require_valid(now)
    identity, node = folder.identity(), NodeKey.load(folder.node_file)
    body = sign_body(
        identity,
        Tag.ENROLMENT,
        {
            "site": invitation.site,
            "token": invitation.token,
            "identity": identity.public.hex,
            "node": node.public.hex,
            "software": fedvol.__version__,
        },
    )
    answer = server.enrol(body)
    if not answer.is_taken:
        raise _refused(invitation, answer)
    folder.remove(folder.token_file)
    return SiteIdentity(
        site=invitation.site,
        consortium=invitation.consortium,
        server=invitation.server,
        fingerprint=site_fingerprint(invitation.site, identity=identity.public, node=node.public),
    )


def site_identity(folder: SiteFolder) -> SiteIdentity:
    """Who the site of a folder is.

    Raises:
        KeyFileError: A key cannot be read.
        SiteFileError: Its file is wrong.
    """
    config = folder.config()
    return SiteIdentity(
        site=config.site,
        consortium="",
        server=config.server,
        fingerprint=site_fingerprint(
            config.site,
            identity=folder.identity().public,
            node=NodeKey.load(folder.node_file).public,
        ),
    )


def _identity_key(path: Path) -> IdentityKey:
    return IdentityKey.load(path) if path.exists() else IdentityKey.create(path)


def _node_key(path: Path) -> NodeKey:
    return NodeKey.load(path) if path.exists() else NodeKey.create(path)


_REFUSALS = {
    "FV-TRAN-026": "the invitation was used already, with other keys",
    "FV-TRAN-027": "the token belongs to the invitation of another site",
    InvitationRefusedError.code: "the server does not know the token",
}


def _refused(invitation: Invitation, answer: "Answer") -> Exception:
    where = f"server {invitation.server}"
    if answer.code == InvitationExpiredError.code:
        return InvitationExpiredError(
            where, "the invitation's time is over", "Ask the operator for a new one."
        )
    if answer.code in _REFUSALS:
        return InvitationRefusedError(
            where,
            f"{_REFUSALS[answer.code]} ({answer.code})",
            "Tell the operator at once, by telephone: somebody else may have used it. Then ask "
            "for a new invitation.",
        )
    if answer.status == 429:
        return CallRefusedError(where, "it was asked too often", "Wait a minute, then try again.")
    return MessageError(
        where,
        f"it answered {answer.status} {answer.code}".rstrip(),
        "Compare the versions of server and site; the server's log says why.",
    )
