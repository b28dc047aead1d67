"""`serve_server`: the server's main process: both listeners, and the coordinator beside it."""

import threading
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import fedvol
from fedvol.audit import AuditLog
from fedvol.errors import FedvolError
from fedvol.files import locked_folder, remove_unfinished
from fedvol.identity import NodePublicKey, write_moment
from fedvol.server.agreeing import AgreementDesk, agreement_routes
from fedvol.server.audited_actions import AuditedActions
from fedvol.server.coordinator_process import CoordinatorProcess, coordinator_words
from fedvol.server.front_door import FrontDoor
from fedvol.server.joining import EnrolmentDesk, joining_routes
from fedvol.server.operator_api import operator_app
from fedvol.server.operator_desk import OperatorDesk
from fedvol.server.progress import ProgressDesk, progress_routes
from fedvol.server.refusals import Refusals
from fedvol.server.renewing import SOON_DAYS, CertificateWatch
from fedvol.server.restored_from import RestoredFrom
from fedvol.server.run_desk import RunDesk
from fedvol.server.server_state import ServerState
from fedvol.store import Wanted
from fedvol.telemetry import Observer
from fedvol.transport.network.calls import CallGuard
from fedvol.types import Json, SiteId

SYNC_S = 30.0
"""Seconds between two looks at who may take part: a roster ends by itself."""


def serve_server(folder: Path, *, observer: Observer, stop: threading.Event) -> None:
    """Serve until told to stop.

    Args:
        folder: The server's folder.
        observer: Hears of starts and ends.
        stop: Ends it.

    Raises:
        FolderLockedError: Another process serves this folder.
        ConfigError: `server.toml` is absent or wrong.
        CertificateError: Sites would not accept the server's certificate.
        LinkDownError: A port is in use.
    """
    with closing(ServerState.open(folder)) as state, locked_folder(folder):
        remove_unfinished(folder)
        ends = state.require_certificate()
        with closing(_Server(state, observer=observer)) as server:
            public, private = server.open()
            observer.event(
                "server.listening",
                address=state.config.address,
                port=public,
                private_port=private,
                certificate_until=write_moment(ends),
            )
            while not stop.wait(SYNC_S):
                server.look()
    observer.event("server.ended")


@final
class _Server:
    """Everything that runs in the main process."""

    def __init__(self, state: ServerState, *, observer: Observer) -> None:
        self._state = state
        self._syncing = threading.Lock()
        self._nodes: dict[SiteId, NodePublicKey] | None = None
        self._audit = AuditLog(state.folder.audit, signer=state.key)
        self._refusals = Refusals(self._audit)
        guard = CallGuard(state.registry, remembered_in=state.folder.calls)
        agreements = AgreementDesk(state.store, sites=state.registry)
        progress = ProgressDesk(state.store, sites=state.registry)
        self._door = FrontDoor(
            state.folder,
            sites=state.registry,
            guard=guard,
            routes=[
                *joining_routes(state.store, EnrolmentDesk(state.store)),
                *agreement_routes(agreements, guard),
                *progress_routes(progress, guard),
            ],
            operators=operator_app(
                OperatorDesk(state, audit=self._audit, online=self._online, changed=self.sync),
                RunDesk(state, online=self._online, training=progress.training),
                users=state.store.people.user_of,
                actions=AuditedActions(state.store, self._audit),
                status=self._status,
            ),
            refusals=self._refusals,
        )
        self._coordinator = CoordinatorProcess(
            coordinator_words(state.folder.folder), observer=observer
        )
        self._certificate = CertificateWatch(
            state, serve=self._door.renew_certificate, observer=observer
        )
        self._is_coordinated = False
        self._observer = observer

    def open(self) -> tuple[int, int]:
        """Listen, then start the coordinator; returns the public and the private port."""
        self.sync()
        listen = self._state.config.listen
        private = self._door.open_private(port=listen.private_port)
        public = self._door.open_public(
            host=listen.host, port=listen.port, certificate=self._state.certificate
        )
        self._coordinator.start()
        self._is_coordinated = True
        return public, private

    def look(self) -> None:
        """What is due now and then: who may take part, the certificate, refusals, a checkpoint.

        What cannot be done now, because the disk is full or the database away, is told and done
        at the next look.
        """
        for due in (
            self.sync,
            self._certificate.look,
            self._refusals.write,
            self._audit.checkpoint_if_due,
        ):
            try:
                due()
            except FedvolError as error:  # and the others are due all the same
                self._observer.event("look.failed", code=error.code, what=str(error))

    def sync(self) -> None:
        """Let exactly those sites in that may take part now."""
        with self._syncing:
            nodes = self._state.registry.nodes()
            if nodes == self._nodes:
                return
            try:
                self._door.set_sites(nodes)
                self._nodes = nodes
            except FedvolError as error:
                # One site's bad key must not take the server down; the operator sees it here.
                self._observer.event("sites.failed", code=error.code, what=error.what)

    def close(self) -> None:
        """End the coordinator, then the listeners, and write down what is left.

        Each of these is done even if one before it fails.

        Raises:
            AuditError: The audit log cannot be written.
        """
        with ExitStack() as last_first:
            last_first.callback(self._audit.close)
            last_first.callback(self._refusals.write, is_closing=True)
            last_first.callback(self._door.close)
            if self._is_coordinated:
                last_first.callback(self._coordinator.stop)

    def _online(self) -> tuple[SiteId, ...]:
        return self._door.superlink.online()

    def _status(self) -> dict[str, Json]:
        roster = self._state.registry.roster()
        requests = self._state.store.agreements.requests()
        ends = self._state.require_certificate()
        days = (ends - datetime.now(UTC)).days
        restored = RestoredFrom.read(self._state.folder.restored)
        return {
            "version": fedvol.__version__,
            "consortium": self._state.config.consortium,
            "address": self._state.config.address,
            "identity": self._state.key.public.fingerprint,
            "certificate_until": write_moment(ends),
            "certificate_days": days,
            "certificate_ends_soon": days < SOON_DAYS,
            "roster": roster.version if roster else None,
            "roster_until": write_moment(roster.not_after) if roster else None,
            "sites_active": len(self._state.registry.active()),
            "sites_online": len(self._online()),
            "coordinator": self._coordinator.pid,
            "coordinator_starts": self._coordinator.starts,
            "restored": restored.model_dump(mode="json") if restored else None,
            "runs_started": sum(one.wanted is Wanted.STARTED for one in requests),
        }
