"""`server.toml`: the operator's own file."""

import json
from typing import Annotated, Literal

from pydantic import Field

from fedvol.config.base import Section

Port = Annotated[int, Field(ge=1, le=65535)]

SERVER_FILE = "server.toml"
STORE_PASSWORD = "keys/store-password"  # noqa: S105  # where it lies
"""Where `fedvol server init` puts the database's password, in the folder."""


class Listen(Section):
    """Where the server listens on its own machine."""

    host: str = "0.0.0.0"  # noqa: S104  # the public listener is meant to be reached
    """Address of the public listener; `0.0.0.0` is every address of the machine."""
    port: Port
    """Port of the public listener; the one that the hospitals' firewalls must let out to."""
    private_port: Port = 9092
    """Port of the private listener, on the loopback address alone: operators and coordinator."""


class OwnAuthority(Section):
    """The consortium's own authority vouches for the server; made by `fedvol server init`."""

    kind: Literal["own"] = "own"
    """Chooses this section."""


class CertificateFiles(Section):
    """Files of a certificate that somebody else issued."""

    kind: Literal["files"]
    """Chooses this section."""
    chain: Annotated[str, Field(min_length=1)]
    """PEM of the certificate, with intermediate ones behind it; relative to the folder."""
    key: Annotated[str, Field(min_length=1)]
    """PEM of its key, without a passphrase, for its owner's eyes alone."""
    authority: Annotated[str, Field(min_length=1)]
    """PEM of the authority that sites are to trust for this server alone."""


ServerCertificateSource = Annotated[OwnAuthority | CertificateFiles, Field(discriminator="kind")]


class StoreSettings(Section):
    """Where records are kept."""

    url: Annotated[str, Field(pattern=r"^(sqlite|postgresql\+psycopg)://")] | None = None
    """`postgresql+psycopg://USER@HOST/NAME`, without a password; absent: `server.db`."""
    password_file: Annotated[str, Field(min_length=1)] | None = None
    """File with the database's password, for its owner's eyes alone; relative to the folder.
    Absent: PostgreSQL's own ways, such as `PGPASSFILE`."""


def store_text(url: str | None, *, has_password: bool) -> str:
    """A section `[store]` with an empty line before it; nothing where there is nothing to say."""
    keys = [] if url is None else [f"url = {json.dumps(url)}"]
    if has_password:
        keys.append(f"password_file = {json.dumps(STORE_PASSWORD)}")
    return "".join(f"{line}\n" for line in ("", "[store]", *keys)) if keys else ""


class Joining(Section):
    """How sites join."""

    invitation_days: Annotated[int, Field(ge=1, le=90)] = 14
    """How long an invitation holds, in days."""


class Waiting(Section):
    """How long a started run waits for its sites before it begins or goes on."""

    for_all_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds in which every consenting site may come; then those that are there begin."""
    for_quorum_s: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds in which as many as the study's minimum must be there, or the run fails."""


class ServerConfig(Section):
    """What an operator says of the server."""

    version: Literal[1]
    """Version of this schema."""
    consortium: Annotated[str, Field(min_length=1, max_length=100)]
    """The consortium's name, as its root has it."""
    address: str
    """Where hospitals reach the server: `host:port`, as it stands in invitations."""
    listen: Listen
    """Where it listens."""
    certificate: ServerCertificateSource = OwnAuthority()
    """Who vouches for it."""
    store: StoreSettings = StoreSettings()
    """Where records are kept."""
    joining: Joining = Joining()
    """How sites join."""
    waiting: Waiting = Waiting()
    """How long a run waits for its sites."""
