"""The worker answers what was approved and prepared, and sends nothing whose approval is gone."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from audit_logs import Noted
from hospital import (
    SITE,
    Server,
    add_to_config,
    joined,
    keep_proposal,
    now,
    plain_plan,
    source_toml,
)
from tiny import tiny_study, tiny_text

from fedvol.audit import UNNAMED, AuditLog, RequestReceived
from fedvol.client import site_worker
from fedvol.client.hospital import Preparing
from fedvol.client.site_process import opens_site_worker
from fedvol.client.site_worker import RosterSite, SiteWorker
from fedvol.config.loading import parse_open_study
from fedvol.errors import ConfigFileError, RosterError
from fedvol.federation import Action, Request
from fedvol.plan import Plan, Proposal
from fedvol.privacy import Contribution
from fedvol.simulation.federate import make_plan
from fedvol.site import Answering, Gate, SiteFolder
from fedvol.site.preparing import fitting_source, prepare_cases
from fedvol.store import SiteStore
from fedvol.transport.engine import RecordDict
from fedvol.transport.network.blob_client import BlobClient
from fedvol.types import Digest, Json, RunId, SiteId, State


@dataclass
class Watching:
    """Does something once, at the first step of a training, as somebody at the site might."""

    meanwhile: Callable[[], object] | None = None
    seen: list[str] = field(default_factory=list)

    def event(self, name: str, /, **fields: Json) -> None:
        del fields
        self.seen.append(name)
        if name == "site.training" and self.meanwhile is not None:
            do, self.meanwhile = self.meanwhile, None
            do()


def answering(held: SiteFolder, store: SiteStore) -> Answering:
    return Answering(folder=held, store=store, key=held.identity())


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(folder=tmp_path / "server")


@pytest.fixture
def held(tmp_path: Path, server: Server, tiny_data: Path) -> SiteFolder:
    """A site with the volumes of one generated hospital, whose floors they pass."""
    folder = joined(tmp_path / "site", server)
    folder.config_file.write_text(folder.config_file.read_text().replace("= 10", "= 1"))
    volumes = min(path for path in tiny_data.iterdir() if path.is_dir())
    add_to_config(folder, source_toml(volumes))
    return folder


@pytest.fixture
def volumes(held: SiteFolder, tmp_path: Path) -> Path:
    """The same volumes in a folder that a test may change."""
    (source,) = held.config().data
    copied = Path(shutil.copytree(source.folder, tmp_path / "volumes"))
    held.config_file.write_text(held.config_file.read_text().replace(source.folder, str(copied)))
    return copied


def take_out(volumes: Path) -> str:
    """The first case for training goes out of the table; its name."""
    table = volumes / "cases.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    gone = next(row["case"] for row in rows if row["fold"] not in ("0", "1"))
    lines = table.read_text().splitlines()
    table.write_text("\n".join(one for one in lines if not one.startswith(f"{gone},")) + "\n")
    return gone


def ask(
    worker: SiteWorker,
    content: Plan | Proposal,
    action: Action,
    state: State | None = None,
    *,
    number: int = 1,
) -> Contribution:
    request = Request(
        run=RunId("p1"),
        plan=content.digest,
        stage=0,
        round=0 if action in (Action.HEALTH, Action.FINGERPRINT) else number,
        site=SITE,
        action=action,
        state=state or {},
        arguments={},
        limit_s=300.0,
    )
    return worker.handle(SITE, request)


def events(held: SiteFolder) -> list[str]:
    lines = held.audit_file.read_text().splitlines()
    kinds = [json.loads(line)["event"]["kind"] for line in lines]
    return [kind for kind in kinds if kind != "checkpoint"]


def test_a_fingerprint_is_given_once_it_is_approved_and_counted(
    held: SiteFolder, server: Server
) -> None:
    study = parse_open_study(tiny_text(), where="tiny.toml")
    proposal = Proposal(software="0.1.0", study=study, sites=(SITE,))
    with SiteStore(held.store_file) as store:
        keep_proposal(held, server, "p1", proposal)
        worker = SiteWorker(held, store, audit=AuditLog(held.audit_file), observer=Watching())
        assert ask(worker, proposal, Action.FINGERPRINT).code == "FV-PRIV-021"
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        assert ask(worker, proposal, Action.FINGERPRINT).code == "FV-DATA-030"
        source = fitting_source(held.config(), study.data)
        prepare_cases(held, source, study, on_case=lambda record, done, total: None)
        given = ask(worker, proposal, Action.FINGERPRINT)
        assert given.code == ""
        assert ask(worker, proposal, Action.HEALTH).code == "FV-PRIV-002"
    assert events(held) == [
        *("policy", "refusal", "consent"),
        *("policy", "refusal", "policy", "fingerprint", "policy", "refusal"),
    ]


def test_what_was_trained_stays_here_if_the_site_changes_its_mind_meanwhile(
    held: SiteFolder, server: Server
) -> None:
    study = tiny_study()
    plan, initial = make_plan(study, sites=(SITE,))
    watching, text = Watching(), held.config_file.read_text()

    def withdraw() -> None:
        with SiteStore(held.store_file) as store:
            answering(held, store).withdraw("p1", by="x", reason="", now=now())

    def tighten() -> None:
        held.config_file.write_text(text.replace("min_group = 1", "min_group = 2"))

    with SiteStore(held.store_file) as store:
        keep_proposal(held, server, "p1", plan)
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        source = fitting_source(held.config(), study.data)
        prepare_cases(held, source, study, on_case=lambda record, done, total: None)
        worker = SiteWorker(held, store, audit=AuditLog(held.audit_file), observer=watching)
        assert ask(worker, plan, Action.HEALTH).code == ""
        watching.meanwhile = withdraw
        withdrawn = ask(worker, plan, Action.FINETUNE, initial)
        assert watching.seen.count("site.training") == 3
        assert (withdrawn.code, dict(withdrawn.tensors)) == ("FV-PRIV-021", {})
        assert refused(held) == ["FV-PRIV-021"]
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        watching.meanwhile = tighten
        tightened = ask(worker, plan, Action.FINETUNE, initial)
        assert (tightened.code, dict(tightened.tensors)) == ("FV-PRIV-020", {})
        assert refused(held) == ["FV-PRIV-021", "FV-PRIV-020"]
        assert ask(worker, plan, Action.FINETUNE, initial, number=4).code == "FV-PRIV-002"


def test_a_broken_site_file_is_told_by_its_code(held: SiteFolder, server: Server) -> None:
    plan = plain_plan(tiny_study())
    with SiteStore(held.store_file) as store:
        keep_proposal(held, server, "p1", plan)
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        worker = SiteWorker(held, store, audit=AuditLog(held.audit_file), observer=Watching())
        held.config_file.write_text("no toml")
        assert ask(worker, plan, Action.HEALTH).code == ConfigFileError.code


def test_no_gpu_is_told_by_its_code(held: SiteFolder, server: Server) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    study = tiny_study()
    plan, _ = make_plan(study, sites=(SITE,))
    held.config_file.write_text(held.config_file.read_text().replace('"cpu"', '"cuda"'))
    with SiteStore(held.store_file) as store:
        keep_proposal(held, server, "p1", plan)
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        source = fitting_source(held.config(), study.data)
        prepare_cases(held, source, study, on_case=lambda record, done, total: None)
        worker = SiteWorker(held, store, audit=AuditLog(held.audit_file), observer=Watching())
        assert ask(worker, plan, Action.HEALTH).code == "FV-CONF-007"


def refused(held: SiteFolder) -> list[str]:
    """Codes of the requests that the site's rules refused, by its audit log."""
    lines = [json.loads(line)["event"] for line in held.audit_file.read_text().splitlines()]
    return [one["code"] for one in lines if one["kind"] == "policy" and one["code"]]


class NoBlobs:
    """Nothing is to be carried."""

    def fetch(self, digest: Digest, *, size_bytes: int, target: Path) -> None:
        raise AssertionError("nothing was to be fetched")

    def bring(self, path: Path, *, digest: Digest, before_piece: Callable[[], None]) -> None:
        raise AssertionError("nothing was to be brought")


def test_what_comes_before_a_roster_is_turned_away_and_told(tmp_path: Path, server: Server) -> None:
    held, audit = joined(tmp_path / "site", server), Noted()

    def never(site: SiteId, request: Request) -> Contribution:
        raise AssertionError("nobody was to be asked")

    with SiteStore(held.store_file) as store:
        carrier = RosterSite(
            held,
            held.identity(),
            blobs=NoBlobs(),
            gate=Gate(held, store, audit=audit),
            audit=audit,
            refuses=lambda request, error: never(SITE, request),
        )
        with pytest.raises(RosterError):
            carrier.answer(never, RecordDict(), site=SITE, action=Action.HEALTH.value)
    (line,) = audit.events
    assert isinstance(line, RequestReceived)
    assert (line.code, line.site, line.action) == (RosterError.code, SITE, Action.HEALTH.value)
    assert line.message == UNNAMED


def test_a_worker_that_starts_removes_what_a_killed_one_left(
    tmp_path: Path, server: Server
) -> None:
    held = joined(tmp_path / "site", server)
    left = held.outbox / "terms" / f"{'3' * 64}.safetensors"
    left.parent.mkdir(parents=True)
    left.touch()
    opens_site_worker(held)(0, Watching())
    assert not left.exists()


def test_its_weights_go_up_as_slowly_as_the_site_wants(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = joined(tmp_path / "site", server)
    text = held.config_file.read_text()
    held.config_file.write_text(text.replace("min_cohort = 10", "max_upload_mbit_s = 2.5"))
    bounds: list[float | None] = []

    def noted(address: str, *, max_mbit_s: float | None, **how: Any) -> BlobClient:
        bounds.append(max_mbit_s)
        return BlobClient(address, max_mbit_s=max_mbit_s, **how)

    monkeypatch.setattr(site_worker, "BlobClient", noted)
    opens_site_worker(held)(0, Watching())
    assert bounds == [2.5]


def test_a_patient_who_is_taken_out_is_trained_on_no_more(
    held: SiteFolder, server: Server, volumes: Path
) -> None:
    study = tiny_study()
    plan, initial = make_plan(study, sites=(SITE,))
    with SiteStore(held.store_file) as store:
        keep_proposal(held, server, "p1", plan)
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        Preparing(held, store, observer=Watching()).once()
        worker = SiteWorker(held, store, audit=AuditLog(held.audit_file), observer=Watching())
        before = ask(worker, plan, Action.FINETUNE, initial)
        gone = take_out(volumes)
        assert ask(worker, plan, Action.FINETUNE, initial).code == "FV-DATA-030"
        assert list(held.folder.glob(f"cases/*/cases/{gone}.case")) != []
        Preparing(held, store, observer=Watching()).once()
        after = ask(worker, plan, Action.FINETUNE, initial)
    assert (before.values["cases"], after.values["cases"]) == (3, 2)
    assert list(held.folder.glob(f"cases/*/cases/{gone}.case")) == []


def test_what_was_trained_on_a_patient_taken_out_meanwhile_stays_here(
    held: SiteFolder, server: Server, volumes: Path
) -> None:
    study = tiny_study()
    plan, initial = make_plan(study, sites=(SITE,))
    watching = Watching(meanwhile=lambda: take_out(volumes))
    with SiteStore(held.store_file) as store:
        keep_proposal(held, server, "p1", plan)
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        Preparing(held, store, observer=watching).once()
        worker = SiteWorker(held, store, audit=AuditLog(held.audit_file), observer=watching)
        refused = ask(worker, plan, Action.FINETUNE, initial)
    assert watching.meanwhile is None
    assert (refused.code, dict(refused.tensors)) == ("FV-DATA-030", {})


def test_a_damaged_case_is_refused_by_its_code_until_it_is_mended(
    held: SiteFolder, server: Server
) -> None:
    study = tiny_study()
    plan, initial = make_plan(study, sites=(SITE,))
    with SiteStore(held.store_file) as store:
        keep_proposal(held, server, "p1", plan)
        answering(held, store).approve("p1", by="x", reason="", source=None, now=now())
        Preparing(held, store, observer=Watching()).once()
        files = {path: path.read_bytes() for path in held.folder.glob("cases/*/cases/*.case")}
        for path, whole in files.items():
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        worker = SiteWorker(held, store, audit=AuditLog(held.audit_file), observer=Watching())
        trained, judged = (
            ask(worker, plan, action, initial) for action in (Action.FINETUNE, Action.VALIDATE)
        )
        for path, whole in files.items():
            path.write_bytes(whole)
        mended = ask(worker, plan, Action.FINETUNE, initial)
    assert len(files) > 1
    assert (trained.code, judged.code) == ("FV-DATA-019", "FV-DATA-019")
    assert (mended.code, mended.values["cases"]) == ("", 3)
