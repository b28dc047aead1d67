"""A server's folder and hospitals with keys of their own, for tests of the real server."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from audit_logs import Noted
from cryptography.hazmat.primitives.asymmetric import ec

import fedvol
from fedvol.cli.server import server_text
from fedvol.identity import (
    IdentityKey,
    Invitation,
    NodeKey,
    RootFolder,
    Tag,
    next_roster,
    sign_body,
    write_moment,
)
from fedvol.server.server_state import ServerState, create_server
from fedvol.transport.network.calls import sign_call
from fedvol.types import Json, SiteId

CONSORTIUM = "Four Hospitals"
ADDRESS = "127.0.0.1:8443"


@dataclass(kw_only=True)
class Hospital:
    """A hospital's keys, and what it says with them."""

    name: str
    identity: IdentityKey = field(default_factory=IdentityKey.generate)
    node: NodeKey = field(default_factory=lambda: NodeKey(ec.generate_private_key(ec.SECP384R1())))

    def enrolment(self, token: str, *, signer: IdentityKey | None = None, **changes: Json) -> bytes:
        """What it sends to join."""
        payload: dict[str, Json] = {
            "site": self.name,
            "token": token,
            "identity": self.identity.public.hex,
            "node": self.node.public.hex,
            "software": fedvol.__version__,
        }
        return sign_body(signer or self.identity, Tag.ENROLMENT, payload | changes)

    def consent(
        self, proposal: str, plan: str, decision: str = "approve", **changes: Json
    ) -> bytes:
        """Its word on a proposal."""
        payload: dict[str, Json] = {
            "proposal": proposal,
            "plan": plan,
            "site": self.name,
            "decision": decision,
            "reason": "",
            "time": write_moment(datetime.now(UTC)),
        }
        return sign_body(self.identity, Tag.CONSENT, payload | changes)

    def progress(self, run: str, plan: str, **changes: Json) -> bytes:
        """What it tells of its training."""
        payload: dict[str, Json] = {
            "run": run,
            "plan": plan,
            "site": self.name,
            "stage": 0,
            "round": 1,
            "step": 31,
            "steps": 120,
            "step_s": 2.5,
        }
        return sign_body(self.identity, Tag.PROGRESS, payload | changes)

    def call(self, method: str, path: str, *, size_bytes: int = 0) -> dict[str, str]:
        """Header of a signed call."""
        return sign_call(
            self.identity, site=SiteId(self.name), method=method, path=path, size_bytes=size_bytes
        )


@dataclass(kw_only=True)
class Consortium:
    """A root and a server's folder."""

    root: RootFolder
    folder: Path
    token: str

    def sign_roster(self, state: ServerState) -> bytes:
        """What the root makes of the server's draft."""
        roster = next_roster(
            state.registry.draft(),
            consortium=CONSORTIUM,
            last=self.root.last(),
            now=datetime.now(UTC),
            days=30,
        )
        return self.root.sign(roster).to_bytes()

    def join(self, state: ServerState, *hospitals: Hospital) -> None:
        """Invite and enrol hospitals, and have the root sign for them."""
        from fedvol.server.joining import EnrolmentDesk

        for one in hospitals:
            token = Invitation.parse(invitation_line(state, one.name)).token
            EnrolmentDesk(state.store).enrol(one.enrolment(token))
        state.registry.put(self.sign_roster(state), where="roster", by="operator")


def make_consortium(
    folder: Path,
    *,
    port: int = 8443,
    private_port: int = 9092,
    store: str | None = None,
    store_password: str | None = None,
) -> Consortium:
    """A root in `root`, a server in `server`; its records in a PostgreSQL where one is named."""
    (folder / "root").mkdir(parents=True)
    (folder / "server").mkdir()
    root = RootFolder.create(folder / "root", consortium=CONSORTIUM)
    text = server_text(
        consortium=CONSORTIUM,
        address=f"127.0.0.1:{port}",
        port=port,
        private_port=private_port,
        store=store,
        has_store_password=store_password is not None,
    )
    token = create_server(
        folder / "server",
        config_text=text,
        root=root.record,
        operator="operator",
        store_password=store_password,
    )
    return Consortium(root=root, folder=folder / "server", token=token)


def invitation_line(state: ServerState, site: str) -> str:
    """A fresh invitation."""
    from fedvol.server.operator_desk import OperatorDesk

    desk = OperatorDesk(state, audit=Noted(), online=lambda: (), changed=lambda: None)
    return str(desk.invite(site, by="operator")["line"])
