"""Receipts count under the server's signature, for this site and run, and are written down once."""

import json
from pathlib import Path
from typing import Any

import pytest
from audit_logs import Noted
from conftest import Command
from hospital import SITE, Server, add_to_config, joined, now, plain_plan, source_toml, syncing
from tiny import Events, tiny_study

from fedvol.audit import AuditEvent, AuditSink
from fedvol.errors import AuditError
from fedvol.identity import IdentityKey
from fedvol.site import Answering, SiteFolder
from fedvol.site.receipts import take_receipt
from fedvol.store import SiteStore
from fedvol.types import RunId


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(folder=tmp_path / "server")


@pytest.fixture
def held(tmp_path: Path, server: Server) -> SiteFolder:
    """A site that took part in the run `p1`, which has begun."""
    folder = joined(tmp_path / "site", server)
    add_to_config(folder, source_toml(tmp_path))
    server.propose("p1", plain_plan(tiny_study()))
    with server.listening(), syncing(folder) as sync:
        sync.once()
    with SiteStore(folder.store_file) as store:
        Answering(folder=folder, store=store, key=folder.identity()).approve(
            "p1", by="x", reason="", source=None, now=now()
        )
    server.proposals["p1"]["state"] = "started"
    return folder


def test_a_receipt_is_kept_and_written_down_once(
    held: SiteFolder, server: Server, fedvol: Command
) -> None:
    server.give_receipt("p1")
    events = Events()
    for _ in range(2):  # as if the process had been started again
        with server.listening(), syncing(held, observer=events) as sync:
            sync.once()
    assert len(events.named("receipt.taken")) == 1
    lines = [json.loads(line)["event"] for line in held.audit_file.read_text().splitlines()]
    logged = [one for one in lines if one["kind"] != "checkpoint"]
    assert [one["kind"] for one in logged] == ["roster", "consent", "receipt"]
    assert logged[2]["message"] == "2" * 64
    said = json.loads(fedvol("site", "receipts", "--folder", held.folder, "--json").out)
    assert [(one["run"], one["round"]) for one in said["receipts"]] == [("p1", 1)]


@pytest.mark.parametrize(
    "changes",
    [{"key": IdentityKey.generate()}, {"site": "other"}, {"run": "p2"}, {"round": -1}],
)
def test_a_receipt_that_does_not_count(
    held: SiteFolder, server: Server, changes: dict[str, Any]
) -> None:
    server.give_receipt(**{"run": "p1", **changes})
    server.receipts["p1"] = [text for texts in server.receipts.values() for text in texts]
    server.give_receipt("p1", round=2)
    events = Events()
    with server.listening(), syncing(held, observer=events) as sync:
        sync.once()
    assert len(events.named("receipt.refused")) == 1
    with SiteStore(held.store_file) as store:
        assert [(one.run, one.round) for one in store.receipts()] == [("p1", 2)]


class Full:
    """A log on a full disk."""

    def append(self, event: AuditEvent, /) -> None:
        raise AuditError("audit.jsonl", "no space left on the disk", "Free some space.")


def test_a_receipt_that_cannot_be_written_down_is_not_kept(
    held: SiteFolder, server: Server
) -> None:
    server.give_receipt("p1")
    (text,) = server.receipts["p1"]
    with SiteStore(held.store_file) as store:

        def take(audit: AuditSink) -> bool:
            return take_receipt(
                store,
                text,
                audit=audit,
                server=server.identity.public,
                run=RunId("p1"),
                site=SITE,
            )

        with pytest.raises(AuditError):
            take(Full())
        assert store.receipts() == ()
        log = Noted()
        assert (take(log), take(log)) == (True, False)
        assert len(log.events) == 1
