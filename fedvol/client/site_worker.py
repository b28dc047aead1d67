"""The app of a hospital's worker: it answers for every run that the hospital approved."""

from collections.abc import Callable
from pathlib import Path
from typing import final

import torch

from fedvol.audit import AuditLog, AuditSink
from fedvol.client.agent import SiteAgent
from fedvol.client.cases import open_cases
from fedvol.client.fingerprinting import FingerprintAgent
from fedvol.client.plan_network import PlanNetwork
from fedvol.client.site_process import Through
from fedvol.client.site_refusals import SiteRefusals
from fedvol.config import SiteConfig
from fedvol.data import CaseRecord
from fedvol.data.case_store import CaseStore
from fedvol.errors import (
    DeviceError,
    FedvolError,
    IdentityError,
    NotPreparedError,
    SiteFailedError,
)
from fedvol.federation import Request
from fedvol.identity import IdentityKey, client_context
from fedvol.plan import Plan
from fedvol.privacy import Contribution
from fedvol.site import Admitted, Gate, SiteFolder, current_roster
from fedvol.site.consent import consent_name
from fedvol.site.gate import local_now
from fedvol.site.preparing import PreparedCases, fitting_source, require_prepared
from fedvol.store import SiteStore, SqlCatalogue
from fedvol.telemetry import Observer
from fedvol.transport.carriers import Handle
from fedvol.transport.clock import SystemClock
from fedvol.transport.engine import App, RecordDict
from fedvol.transport.flower import make_client_app
from fedvol.transport.network.blob_client import BlobClient
from fedvol.transport.network.message_lines import request_turned_away
from fedvol.transport.network.outbox import Outbox
from fedvol.transport.network.signed_site import Blobs, SignedSite
from fedvol.types import SiteId

Agent = SiteAgent | FingerprintAgent


@final
class SiteWorker:
    """Answers requests of approved runs; everything else is refused with a code.

    Args:
        folder: The site's folder.
        store: Its proposals and consents.
        audit: Where decisions and contributions are written down.
        observer: Hears of progress, at the site.

    Raises:
        SiteFileError: `site.toml` is wrong.
    """

    def __init__(
        self, folder: SiteFolder, store: SiteStore, *, audit: AuditSink, observer: Observer
    ) -> None:
        self._folder = folder
        self._site = SiteId(folder.config().site)
        self._audit = audit
        self._gate = Gate(folder, store, audit=audit)
        self._observer = observer
        self._refusals = SiteRefusals(folder, site=self._site, audit=audit, observer=observer)
        self._opened: tuple[object, Agent] | None = None

    @property
    def gate(self) -> Gate:
        """What every request has to pass."""
        return self._gate

    def handle(self, named: SiteId, request: Request) -> Contribution:
        """The site's answer; an error becomes a refusal that carries its code alone."""
        if named != self._site:
            raise SiteFailedError(
                f"site {self._site}",
                "a message for another site came",
                "Look at the node's settings.",
            )
        try:
            contribution = self._computed(request)
        except FedvolError as error:
            return self.refuse(request, error)
        self._tell(request, contribution)
        return contribution

    def refuse(self, request: Request, error: FedvolError) -> Contribution:
        """Tell at the site why a request has no answer; the code of the reason is released."""
        contribution = self._refusals.refuse(request, error)
        self._tell(request, contribution)
        return contribution

    def _computed(self, request: Request) -> Contribution:
        admitted = self._gate.require(request)
        prepared = self._prepared(admitted)
        contribution = self._agent(admitted, prepared).handle(request)
        self._gate.require_still(request, terms=admitted.terms)
        self._require_same(prepared, admitted)
        return contribution

    def _tell(self, request: Request, contribution: Contribution) -> None:
        self._observer.event(
            "site.answered",
            site=self._site,
            run=request.run,
            stage=request.stage,
            round=request.round,
            action=request.action.value,
            code=contribution.code,
        )

    def _prepared(self, admitted: Admitted) -> PreparedCases:
        study = admitted.proposed.study
        source = fitting_source(admitted.config, study.data, name=admitted.consent.source)
        return require_prepared(self._folder, source, study)

    def _require_same(self, before: PreparedCases, admitted: Admitted) -> None:
        """Refuse to send what was computed on cases that were taken out or changed meanwhile."""
        if self._prepared(admitted) != before:
            raise NotPreparedError(
                f"run {admitted.proposed.run}",
                "the cases were changed while it was computed",
                "They are prepared anew, and the next round trains on what is listed now.",
            )

    def _agent(self, admitted: Admitted, prepared: PreparedCases) -> Agent:
        """The agent of a run; that of the last run is kept, because it holds decoded cases."""
        key = (admitted.proposed.id, admitted.consent.sequence, admitted.config, prepared)
        if self._opened is None or self._opened[0] != key:
            self._opened = None  # first let go of the other run's cases
            self._opened = (key, self._open(admitted, prepared.folder))
        return self._opened[1]

    def _open(self, admitted: Admitted, prepared: Path) -> Agent:
        proposed, config = admitted.proposed, admitted.config
        records = _records(prepared)
        site = SiteId(config.site)
        delivery = self._refusals.delivery(consent_name(admitted.consent.signed))
        if not isinstance(proposed.content, Plan):
            return FingerprintAgent(
                site=site,
                proposal=proposed.content,
                records=records,
                policy=config.policy,
                audit=self._audit,
                observer=self._observer,
                delivery=delivery,
            )
        return SiteAgent(
            site=site,
            plan=proposed.content,
            cases=open_cases(records, store=CaseStore(prepared / "cases")),
            folder=self._folder.run(proposed.run),
            policy=config.policy,
            audit=self._audit,
            resampling_key=self._folder.resampling_key(),
            network=PlanNetwork(proposed.content, device=_device(config)),
            observer=self._observer,
            delivery=delivery,
        )


@final
class RosterSite:
    """The site's end of the link, under the roster that holds when a message comes.

    Args:
        folder: The site's folder.
        key: The site's identity.
        blobs: How weights come and go.
        gate: Says what the site agrees to, before anything is made and whenever it leaves.
        audit: Where messages are written down.
        refuses: The site's refusal of a request that it does not agree to, or that finds no place
            on its disk.
    """

    def __init__(
        self,
        folder: SiteFolder,
        key: IdentityKey,
        *,
        blobs: Blobs,
        gate: Gate,
        audit: AuditSink,
        refuses: Callable[[Request, FedvolError], Contribution],
    ) -> None:
        self._refuses = refuses
        self._folder = folder
        self._key = key
        self._blobs = blobs
        self._gate = gate
        self._audit = audit

    def answer(
        self, handle: Handle, content: RecordDict, *, site: SiteId, action: str
    ) -> RecordDict:
        """What goes back for the records of a request.

        Raises:
            RosterError: There is no roster, or its time is over.
            IdentityError: The roster does not list this site as active, or another than its
                server signed the request.
            MessageError: The request is malformed, or meant for another site or action.
        """
        try:
            roster = current_roster(self._folder, now=local_now())
            roster.require_active(site)
        except IdentityError as error:
            self._audit.append(
                request_turned_away(content, site=site, action=action, code=error.code)
            )
            raise
        signed = SignedSite(
            self._key,
            server=roster.server.identity,
            blobs=self._blobs,
            outbox=self._folder.outbox,
            agreement=self._gate,
            audit=self._audit,
            refuses=self._refuses,
            incoming=self._folder.incoming,
            clock=SystemClock(),
        )
        return signed.answer(handle, content, site=site, action=action)


def open_site_worker(folder: SiteFolder, *, through: Through, observer: Observer) -> App:
    """The app of a hospital's worker.

    Args:
        folder: The site's folder.
        through: What its answers pass before they are signed.
        observer: Hears of progress, at the site.

    Raises:
        FedvolError: `site.toml`, a key, the audit log or the folder cannot be used.
    """
    config = folder.config()
    key = folder.identity()
    Outbox.remove_unfinished(folder.outbox)
    # Not closed: the hospital's own process, which outlives this one, signs the last lines.
    audit = AuditLog(folder.audit_file, signer=key)
    worker = SiteWorker(folder, SiteStore(folder.store_file), audit=audit, observer=observer)
    blobs = BlobClient(
        config.server,
        tls=client_context(folder.authority_pem()),
        key=key,
        site=SiteId(config.site),
        proxy=folder.proxy_url(config),
        max_mbit_s=config.policy.max_upload_mbit_s,
    )
    carrier = RosterSite(
        folder, key, blobs=blobs, gate=worker.gate, audit=audit, refuses=worker.refuse
    )
    return make_client_app(through(worker.handle), carrier=carrier)


def _records(prepared: Path) -> tuple[CaseRecord, ...]:
    catalogue = SqlCatalogue(prepared / "catalogue.db", record=CaseRecord)
    try:
        return catalogue.records()
    finally:
        catalogue.close()


def _device(config: SiteConfig) -> torch.device:
    name = config.resources.device
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "resources.device",
            "cuda is asked for, and there is no usable GPU",
            "See `nvidia-smi`, or write cpu.",
        )
    return torch.device(name)
