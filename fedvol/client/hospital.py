"""`serve_hospital`: the process of a hospital. It listens on no port.

Four things go on in it: the node carries messages to the worker and back; one thread keeps roster,
proposals and consents in step with the server; one prepares the cases of what was approved; one
tells the server how far a training is.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import final

from fedvol.audit import AuditLog
from fedvol.client.site_departures import SiteDepartures
from fedvol.client.site_process import Through, opens_site_worker, unchanged
from fedvol.config import DataSource, OpenStudy, Study
from fedvol.data import CaseRecord
from fedvol.errors import FedvolError
from fedvol.files import locked_folder
from fedvol.identity import NodeKey, client_context
from fedvol.site import Gate, SiteFolder, StatusFile, Sync, progress
from fedvol.site.consent import OVER
from fedvol.site.preparing import Findings, fitting_source, is_prepared, prepare_cases
from fedvol.site.proposals import read_proposal
from fedvol.store import Decision, SiteStore
from fedvol.telemetry import Broadcast, JsonLines, Observer
from fedvol.transport.network.fleet_connection import FleetConnection
from fedvol.transport.network.fleet_node import FleetNode, NodeTiming
from fedvol.transport.network.site_calls import SiteCalls
from fedvol.transport.network.warm_worker import WarmWorker
from fedvol.types import Json, SiteId

_LEAVE_S = 5.0
"""Longest wait for a thread that is asked to end; what it did not finish is finished next time."""
_IDLE_S = 0.5
"""Longest wait for a training to begin before a look whether the process is to end."""
_LOOK_S = 2.0
"""Seconds between two looks for approvals whose cases are not prepared."""
_RELIST_S = 30.0
"""Seconds between two looks whether a prepared source still lists the same cases."""
_RETRY_PREPARING_S = 600.0
"""Seconds before cases that could not be prepared are tried again."""


@final
class Serialised:
    """Passes events on one at a time, whichever thread they come from."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = threading.Lock()

    def event(self, name: str, /, **fields: Json) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.event(name, **fields)


def serve_hospital(
    folder: SiteFolder,
    *,
    observer: Observer,
    stop: threading.Event,
    through: Through = unchanged,
) -> None:
    """Answer for a hospital until told to stop.

    Args:
        folder: The site's folder; it is held against a second process.
        observer: Hears of progress, beside the site's own files.
        stop: Ends it, after the message under way.
        through: What the worker's answers pass before they are signed; for tests.

    Raises:
        FolderLockedError: Another process serves this site.
        SiteFileError: `site.toml` is wrong; carries every problem.
        KeyFileError: A key cannot be read.
        StoreError: The folder cannot be written.
        AuditError: The audit log was changed, or cannot be read or written.
    """
    config = folder.config()
    key, node_key = folder.identity(), NodeKey.load(folder.node_file)
    tls, proxy = client_context(folder.authority_pem()), folder.proxy_url(config)
    site = SiteId(config.site)
    folder.resampling_key()
    with (
        locked_folder(folder.folder),
        SiteStore(folder.store_file) as store,
        AuditLog(folder.audit_file, signer=key) as audit,
        JsonLines(folder.events_file) as lines,
        closing(StatusFile(folder.status_file)) as status,
    ):
        calls = SiteCalls(config.server, tls=tls, key=key, site=site, proxy=proxy)
        unheard = Serialised(Broadcast([lines, status, observer]))
        teller = progress.ProgressTeller(folder, store, calls, audit=audit, observer=unheard)
        told = Serialised(Broadcast([unheard, teller]))
        sync = Sync(folder, store, calls, audit=audit, observer=told)
        connection = FleetConnection(
            config.server,
            tls=tls,
            key=node_key,
            heartbeat_s=config.link.heartbeat_s,
            proxy=proxy,
        )
        departures = SiteDepartures(
            folder,
            key,
            site=site,
            gate=Gate(folder, store, audit=audit),
            audit=audit,
            observer=told,
        )
        node = FleetNode(
            connection,
            site=site,
            state=folder.node_state,
            timing=NodeTiming(heartbeat_s=config.link.heartbeat_s, poll_s=config.link.poll_s),
            observer=told,
            departures=departures,
        )
        with (
            closing(calls),
            closing(connection),
            _beside(
                lambda ended: _keep_in_step(sync, audit, config.link.sync_s, told, ended), "sync"
            ),
            _beside(lambda ended: _prepare_approved(folder, store, told, ended), "preparing"),
            _beside(lambda ended: _tell_progress(teller, told, ended), "progress"),
            closing(WarmWorker(opens_site_worker(folder, through=through), observer=told)) as app,
        ):
            node.serve(app, stop=stop)


def _keep_in_step(
    sync: Sync, audit: AuditLog, every_s: float, observer: Observer, ended: threading.Event
) -> None:
    def look() -> None:
        done = sync.once()
        observer.event(
            "site.synced",
            roster=done.roster,
            is_active=done.is_active,
            arrived=done.arrived,
            delivered=done.delivered,
        )

    while not ended.is_set():
        _told(look, "sync.failed", observer)
        _told(audit.checkpoint_if_due, "audit.failed", observer)
        ended.wait(every_s)


def _prepare_approved(
    folder: SiteFolder, store: SiteStore, observer: Observer, ended: threading.Event
) -> None:
    preparing = Preparing(folder, store, observer=observer, should_stop=ended.is_set)
    while not ended.is_set():
        _told(preparing.once, "prepare.failed", observer)
        ended.wait(_LOOK_S)


def _tell_progress(
    teller: progress.ProgressTeller, observer: Observer, ended: threading.Event
) -> None:
    while not ended.is_set():
        if teller.wait(_IDLE_S):
            _told(teller.once, "progress.failed", observer)
            ended.wait(progress.EVERY_S)


def _told(do: Callable[[], None], failed: str, observer: Observer) -> None:
    """Do something; an error is told, and the next time may be better."""
    try:
        do()
    except FedvolError as error:
        observer.event(failed, proposal="", code=error.code, what=error.what)
    except Exception as error:  # noqa: BLE001  # a thread that ended would leave the site deaf
        kind = type(error).__name__
        observer.event(failed, proposal="", code=FedvolError.code, what=f"{kind}: {error}"[:200])


class _EndedError(Exception):
    """Preparing is to end now; what is done is kept."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
class Preparing:
    """Prepares the cases of every approved proposal, anew where its source lists others.

    What failed is tried again after a while.

    Args:
        folder: The site's folder.
        store: Its proposals and consents.
        observer: Hears of each case.
        should_stop: Whether to end after the present case.
        now: The time, UTC.
    """

    def __init__(
        self,
        folder: SiteFolder,
        store: SiteStore,
        *,
        observer: Observer,
        should_stop: Callable[[], bool] = lambda: False,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._folder = folder
        self._store = store
        self._observer = observer
        self._should_stop = should_stop
        self._now = now
        self._next: dict[int, datetime] = {}

    def once(self) -> None:
        """Prepare what is approved and not ready.

        Raises:
            FedvolError: The site's own file or store cannot be read.
        """
        config = self._folder.config()
        for record in self._store.proposals():
            consent = self._store.consent(record.id)
            if consent is None or consent.decision is not Decision.APPROVE:
                continue
            due = self._next.get(consent.sequence)
            if record.state in OVER or (due is not None and self._now() < due):
                continue
            wait_s = _RELIST_S
            try:
                study = read_proposal(record, site=config.site).study
                source = fitting_source(config, study.data, name=consent.source)
                if not is_prepared(self._folder, source, study):
                    self._prepare(record.id, source=source, study=study)
            except _EndedError:
                return
            except FedvolError as error:
                wait_s = _RETRY_PREPARING_S
                self._observer.event(
                    "prepare.failed", proposal=record.id, code=error.code, what=error.what
                )
            self._next[consent.sequence] = self._now() + timedelta(seconds=wait_s)

    def _prepare(self, proposal: str, *, source: DataSource, study: Study | OpenStudy) -> None:
        def on_case(record: CaseRecord, done: int, total: int) -> None:
            if self._should_stop():
                raise _EndedError
            self._observer.event(
                "prepare.case",
                proposal=proposal,
                case=record.case,
                done=done,
                total=total,
                code=record.verdict,
            )

        records = prepare_cases(self._folder, source, study, on_case=on_case)
        found = Findings.of(records)
        self._observer.event(
            "prepare.done",
            proposal=proposal,
            source=source.name,
            by_split=dict[str, Json](found.by_split),
            by_code=dict[str, Json](found.by_code),
        )


@contextmanager
def _beside(do: Callable[[threading.Event], None], name: str) -> Generator[None]:
    """Have something done in a thread of its own until the block ends."""
    ended = threading.Event()
    thread = threading.Thread(target=do, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_LEAVE_S)
