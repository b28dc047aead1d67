"""A hospital's state folder, and the server it calls: real TLS on loopback, real signatures."""

import json
import socket
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fedvol.audit import AuditLog
from fedvol.config.data import DataRequirement
from fedvol.errors import CallRefusedError, InvitationUsedError
from fedvol.identity import (
    Authority,
    IdentityKey,
    Invitation,
    NodePublicKey,
    PublicKey,
    Roster,
    ServerEntry,
    SignedBody,
    SignedRoster,
    SiteEntry,
    SiteStatus,
    Tag,
    client_context,
    open_body,
    sign_body,
    site_fingerprint,
    token_digest,
)
from fedvol.plan import NetworkDescription, Plan, Proposal, TensorKind, TensorSpec
from fedvol.site import Answering, SiteFolder, Sync, init_site
from fedvol.store import HeldProposal, SiteStore
from fedvol.telemetry import Broadcast, Observer
from fedvol.transport.network.calls import HEADER, CallGuard
from fedvol.transport.network.listeners import Certificate, Listener
from fedvol.transport.network.site_calls import SiteCalls
from fedvol.types import Digest, RunId, SiteId

HOST = "127.0.0.1"
SITE = SiteId("hospital_1")


def now() -> datetime:
    return datetime.now(UTC)


def plain_plan(study: Any, *, sites: tuple[str, ...] = (SITE,)) -> Plan:
    """A plan whose network is described, not built: 100 weights and a norm layer."""
    tensors = (
        TensorSpec(name="w", shape=(10, 10), dtype="float32", kind=TensorKind.ENCODER),
        TensorSpec(name="n", shape=(5,), dtype="float32", kind=TensorKind.NORM),
    )
    network = NetworkDescription(tensors=tensors, initial_digest=Digest("0" * 64))
    return Plan(software="0.1.0", study=study, sites=sites, network=network)


class _Keys:
    def __init__(self, server: "Server") -> None:
        self.server = server

    def identity(self, site: SiteId) -> PublicKey | None:
        found = self.server.enrolled.get(site)
        return found[0] if found else None


@dataclass(kw_only=True)
class Server:
    """What the server of the design answers to a site; everything it took is kept."""

    folder: Path
    root: IdentityKey = field(default_factory=IdentityKey.generate)
    identity: IdentityKey = field(default_factory=IdentityKey.generate)
    port: int = 0
    tokens: dict[str, str] = field(default_factory=dict)
    roster: bytes | None = None
    version: int = 0
    enrolled: dict[str, tuple[PublicKey, NodePublicKey]] = field(default_factory=dict)
    proposals: dict[str, dict[str, Any]] = field(default_factory=dict)
    signed: dict[str, bytes] = field(default_factory=dict)
    consents: list[dict[str, Any]] = field(default_factory=list)
    refuse_consents: str = ""
    receipts: dict[str, list[str]] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority.create(
            self.folder / "authority.pem", consortium="test", now=now()
        )
        self.tls = self.folder / "tls.pem"
        self.authority.issue(self.tls, hosts=[HOST], now=now())
        self.guard = CallGuard(_Keys(self))
        if not self.port:
            with socket.socket() as found:
                found.bind((HOST, 0))
                self.port = int(found.getsockname()[1])

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def invite(self, site: str = SITE, *, days: float = 7) -> str:
        invitation = Invitation.new(
            consortium="test",
            site=site,
            server=self.address,
            authority_pem=self.authority.certificate_pem,
            root=self.root.public,
            expires=now() + timedelta(days=days),
        )
        self.tokens[site] = token_digest(invitation.token)
        return invitation.line()

    def sign_roster(self, *, status: SiteStatus = SiteStatus.ACTIVE) -> None:
        """The root signs a roster of everybody enrolled."""
        self.version += 1
        roster = Roster(
            consortium="test",
            version=self.version,
            not_before=now() - timedelta(hours=1),
            not_after=now() + timedelta(days=300),
            server=ServerEntry(identity=self.identity.public),
            sites=tuple(
                SiteEntry(site=site, identity=keys[0], node=keys[1], status=status)
                for site, keys in self.enrolled.items()
            ),
        )
        self.roster = SignedRoster.sign(roster, root=self.root).to_bytes()

    def propose(
        self,
        name: str,
        content: Plan | Proposal,
        *,
        key: IdentityKey | None = None,
        **changes: Any,
    ) -> None:
        """Put something to the sites; `changes` make it wrong."""
        kind = "run" if isinstance(content, Plan) else "fingerprint"
        payload = {
            "id": name,
            "kind": kind,
            "run": name,
            "digest": content.digest,
            "plan": content.model_dump(mode="json"),
            "words": "Please take part.",
            "operator": "olga",
            "created": "2026-01-31T12:00:00Z",
        } | changes
        self.signed[name] = sign_body(key or self.identity, Tag.PROPOSAL, payload)
        self.proposals[name] = {
            "id": name,
            "kind": kind,
            "state": "open",
            "digest": content.digest,
            "size_bytes": len(self.signed[name]),
            "heard": "",
        }

    @contextmanager
    def listening(self) -> Generator["Server"]:
        listener = Listener(
            Starlette(routes=self.routes()),
            host=HOST,
            port=self.port,
            certificate=Certificate(chain=self.tls, key=self.tls),
            runs_lifespan=False,
        )
        listener.start()
        try:
            yield self
        finally:
            listener.stop()

    def routes(self) -> list[Route]:
        return [
            Route("/fedvol/v1/enrol", self._enrol, methods=["POST"]),
            Route("/fedvol/v1/roster", self._roster),
            Route("/fedvol/v1/proposals", self._list),
            Route("/fedvol/v1/proposals/{name}", self._give),
            Route("/fedvol/v1/consents", self._take, methods=["POST"]),
            Route("/fedvol/v1/receipts/{run}", self._receipts),
            Route("/fedvol/v1/progress", self._progress, methods=["POST"]),
        ]

    async def _enrol(self, request: Request) -> Response:
        body = SignedBody.parse(await request.body(), where="enrolment")
        said = json.loads(body.open(Tag.ENROLMENT, signer=body.signer, where="enrolment"))
        site = said["site"]
        keys = (PublicKey(said["identity"]), NodePublicKey(said["node"]))
        is_again = self.enrolled.get(site) == keys
        if not is_again and self.tokens.pop(site, "") != token_digest(said["token"]):
            return JSONResponse({"code": InvitationUsedError.code}, status_code=403)
        self.enrolled[site] = keys
        shown = site_fingerprint(site, identity=keys[0], node=keys[1])
        return JSONResponse({"status": "waiting", "fingerprint": shown})

    async def _roster(self, request: Request) -> Response:
        if HEADER not in request.headers:
            return JSONResponse({"code": "FV-TRAN-009"}, status_code=401)
        if self.roster is None:
            return JSONResponse({"code": "FV-TRAN-013"}, status_code=404)
        return Response(self.roster)

    def _admitted(self, request: Request) -> str | None:
        try:
            return self.guard.admit(
                request.headers, method=request.method, path=request.url.path
            ).site
        except CallRefusedError:
            return None

    async def _list(self, request: Request) -> Response:
        if self._admitted(request) is None:
            return JSONResponse({"code": "FV-TRAN-009"}, status_code=401)
        return JSONResponse({"proposals": list(self.proposals.values())})

    async def _give(self, request: Request) -> Response:
        if self._admitted(request) is None:
            return JSONResponse({"code": "FV-TRAN-009"}, status_code=401)
        return Response(self.signed[request.path_params["name"]])

    async def _receipts(self, request: Request) -> Response:
        if self._admitted(request) is None:
            return JSONResponse({"code": "FV-TRAN-009"}, status_code=401)
        return JSONResponse({"receipts": self.receipts.get(request.path_params["run"], [])})

    def give_receipt(self, run: str, *, key: IdentityKey | None = None, **changes: Any) -> None:
        """A receipt for this site's part in round 1 of a run; `changes` make it wrong."""
        payload = {
            "run": run,
            "plan": "1" * 64,
            "stage": 0,
            "round": 1,
            "attempt": 1,
            "site": SITE,
            "answer": "2" * 64,
            "update": None,
            "global": "3" * 64,
            "time": "2026-01-31T12:00:00Z",
        } | changes
        text = sign_body(key or self.identity, Tag.RECEIPT, payload).decode()
        self.receipts.setdefault(run, []).append(text)

    async def _progress(self, request: Request) -> Response:
        site = self._admitted(request)
        if site is None:
            return JSONResponse({"code": "FV-TRAN-009"}, status_code=401)
        key = self.enrolled[site][0]
        said = open_body(await request.body(), tag=Tag.PROGRESS, signer=key, where="progress")
        self.told.append(said)
        return JSONResponse({})

    async def _take(self, request: Request) -> Response:
        site = self._admitted(request)
        if site is None:
            return JSONResponse({"code": "FV-TRAN-009"}, status_code=401)
        if self.refuse_consents:
            return JSONResponse({"code": self.refuse_consents}, status_code=409)
        said = open_body(
            await request.body(),
            tag=Tag.CONSENT,
            signer=self.enrolled[site][0],
            where="consent",
        )
        self.consents.append(said)
        self.proposals[said["proposal"]]["heard"] = said["decision"]
        return JSONResponse({"status": "recorded"})


def joined(folder: Path, server: Server) -> SiteFolder:
    """A site that the root has let in, without a network."""
    from fedvol.identity import NodeKey

    held = SiteFolder(folder=folder)
    init_site(held, server.invite(), device="cpu", now=now())
    held.token_file.unlink()
    server.enrolled[SITE] = (held.identity().public, NodeKey.load(held.node_file).public)
    server.sign_roster()
    return held


def keep_proposal(
    held: SiteFolder, server: Server, name: str, content: Plan | Proposal, **changes: Any
) -> None:
    """Put something to a site, without a network; `changes` make it another proposal."""
    server.propose(name, content, **changes)
    with SiteStore(held.store_file) as store:
        store.add_proposal(
            HeldProposal(
                id=name,
                kind="run" if isinstance(content, Plan) else "fingerprint",
                run=RunId(name),
                digest=content.digest,
                state="open",
                signed=server.signed[name],
                signer=server.identity.public.hex,
                arrived=now(),
            )
        )


def approve(held: SiteFolder, name: str) -> None:
    """Somebody at the site agrees."""
    with SiteStore(held.store_file) as store:
        answering = Answering(folder=held, store=store, key=held.identity())
        answering.approve(name, by="x", reason="", source=None, now=now())


def add_to_config(folder: SiteFolder, text: str) -> None:
    """Lines at the end of a site's file."""
    folder.config_file.write_text(folder.config_file.read_text() + text)


def source_toml(folder: Path, *, name: str = "ct", data: DataRequirement | None = None) -> str:
    """A source of volumes with the channels and classes that a study asks for; the tiny one's."""
    channels = data.channels if data is not None else ("CT",)
    labels = data.labels if data is not None else {"liver": 1, "kidney": 2, "lesion": 3}
    table = ", ".join(f"{label} = {value}" for label, value in labels.items())
    return (
        f'\n[[data]]\nname = "{name}"\nfolder = "{folder}"\n'
        f"channels = {json.dumps(list(channels))}\nlabels = {{ {table} }}\n"
    )


@contextmanager
def syncing(held: SiteFolder, *, observer: Observer | None = None) -> Generator[Sync]:
    """What keeps a site in step with its server."""
    config = held.config()
    calls = SiteCalls(
        config.server,
        tls=client_context(held.authority_pem()),
        key=held.identity(),
        site=SITE,
        timeout_s=10.0,
    )
    with (
        SiteStore(held.store_file) as store,
        AuditLog(held.audit_file, signer=held.identity()) as audit,
        closing(calls),
    ):
        yield Sync(held, store, calls, audit=audit, observer=observer or Broadcast([]))
