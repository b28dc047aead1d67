"""A consortium as its people type it: root, operator, two hospitals; the same weights as alone.

Every step is a command of the guides (`docs/server.md`, `docs/hospital.md`), in their order. The
study leaves values to the sites' data, so that they agree twice: to be counted, and to the plan. In
the end the server is lost, and goes on from a backup that is older than what its sites remember;
its records move to a PostgreSQL, where there is one.
"""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from network import free_port
from postgresql import PostgreSQL, binaries
from tiny import make_hospitals, tiny_text
from typed import SITES, Typed, approve, checkpoints, is_open, join, start, until

from fedvol.audit import compare_logs
from fedvol.identity import SignedBody
from fedvol.plan import Plan


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest) -> tuple[str, list[str | Path]]:
    """Where the records go when the server is restored, and what is typed for it."""
    if binaries() is None:
        return "", []
    server: PostgreSQL = request.getfixturevalue("postgresql")
    place = server.new_place()
    url = server.url(place, with_password=False)
    return server.url(place), ["--store", url, "--store-password", server.folder / "password"]


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    make_hospitals(tmp_path / "volumes", num_sites=2)
    text = tiny_text(
        rounds="rounds = 2",
        normalisation="",
        batch_size="",
        more="\n[federation]\nmin_sites = 2\n",
    )
    (tmp_path / "study.toml").write_text(text)
    return Typed(tmp_path)


def test_from_nothing_to_a_finished_run_and_back(
    typed: Typed, elsewhere: tuple[str, list[str | Path]]
) -> None:
    folder, private = typed.folder, free_port()
    with ExitStack() as stack:
        join(typed, stack, private=private)
        job = typed("run", "propose", "study.toml", "--name", "first")
        assert (job["run"], job["kind"]) == ("first-fingerprint", "fingerprint")
        refused = typed("run", "start", "first-fingerprint", status=5)  # nobody agreed yet
        assert refused["error"]["code"] == "FV-FED-001"
        agree_and_start(typed, "first-fingerprint")
        await_end(typed, "first-fingerprint")
        shown = typed("run", "propose", "study.toml", "--name", "first")
        agree_and_start(typed, "first")
        until(lambda: typed("run", "show", "first")["round"])
        typed("run", "pause", "first")
        until(lambda: typed("run", "show", "first")["state"] == "paused")
        typed("server", "backup", "server", "server.backup")
        typed("run", "resume", "first")
        ended = await_end(typed, "first")
        assert (ended["wanted"], ended["closed"]) == ("ended", 2)
        assert {one["state"] for one in ended["sites"]} == {"contributed"}
        for site in SITES:
            receipts = until(lambda site=site: receipts_of(typed, site))
            assert [receipt["round"] for receipt in receipts] == [1, 2]
            for receipt in receipts:
                said = json.loads(
                    SignedBody.parse(receipt["signed"].encode(), where="receipt").payload
                )
                assert said["answer"] and said["update"] and said["global"]
    server_log = folder / "server" / "audit.jsonl"
    for log in (server_log, *(folder / site / "audit.jsonl" for site in SITES)):
        assert typed("audit", "verify", log)["num_unsigned"] == 0  # signed as the process ended
    for site in SITES:
        compared = typed("audit", "compare", folder / site / "audit.jsonl", server_log)
        assert compared["contradictions"] == 0
        assert compared["contributions"]["not_taken"] == []
        # Health, two rounds, their validation, and the test; each asked and answered.
        # A site that is still preparing its cases says so, and gets the same request again.
        assert compared["contributions"]["num_both"] >= compared["requests"]["num_both"] >= 6
    assert kinds(server_log) >= {"operator", "roster", "request", "reply_taken", "receipt"}
    assert kinds(folder / SITES[0] / "audit.jsonl") >= {
        *("consent", "roster", "received", "policy"),
        *("fingerprint", "health", "update", "evaluation", "sent", "receipt"),
    }
    # Trainings of a test are over before a second report is due; the first is told at once.
    for site in SITES:
        assert "progress" in kinds(folder / site / "audit.jsonl")
        assert "progress.untold" not in events(folder / site)
    typed("simulate", "study.toml", "--data", "volumes", "--out", "alone", "--device", "cpu")
    planned = Plan.model_validate_json((folder / "alone" / "plan.json").read_bytes())
    assert shown["plan"] == planned.digest
    alone = checkpoints(folder / "alone" / "run.db", "federated")
    assert checkpoints(folder / "server" / "server.db", "first") == alone
    goes_on_from_its_backup(typed, elsewhere[1], private=private)
    assert checkpoints(elsewhere[0] or folder / "server" / "server.db", "first") == alone


def goes_on_from_its_backup(typed: Typed, words: list[str | Path], *, private: int) -> None:
    """The server's disk is lost; its sites remember more than the backup does."""
    shutil.rmtree(typed.folder / "server")
    restored = typed("server", "restore", "server.backup", "server", *words)
    assert (restored["runs"], restored["sites"]) == (1, 2)
    with ExitStack() as stack:
        stack.enter_context(typed.serving("server", "start", "server"))
        for site in SITES:
            stack.enter_context(typed.serving("site", "start", "--folder", site))
        until(lambda: is_open(private))
        assert typed("run", "show", "first")["state"] == "paused"
        typed("run", "resume", "first")
        until(lambda: typed("run", "show", "first")["state"] == "finished")
        assert typed("server", "status")["restored"]["backup"] == restored["manifest"]
    server_log = typed.folder / "server" / "audit.jsonl"
    assert "restored" in kinds(server_log)
    for site in SITES:
        found = compare_logs(typed.folder / site / "audit.jsonl", server_log)
        assert [one.backup for one in found.restores] == [restored["manifest"]]
        # The restored server asked the same again, and had the same answers, not new ones: so there
        # is nothing to contradict. tests/unit/audit has what a backup cannot tell from hiding.
        assert found.contributions.not_taken == ()
        assert found.contributions.num_both >= found.requests.num_both >= 6
        assert (found.num_after_backup, found.num_contradictions) == (0, 0)


def kinds(log: Path) -> set[str]:
    """What an audit log tells of."""
    return {json.loads(line)["event"]["kind"] for line in log.read_text().splitlines()}


def events(site: Path) -> set[str]:
    """What happened at a site."""
    return {json.loads(line)["event"] for line in (site / "events.jsonl").read_text().splitlines()}


def agree_and_start(typed: Typed, name: str) -> None:
    """Both sites agree to a proposal, and it is started."""
    for site in SITES:
        approve(typed, site, name)
    start(typed, name)


def await_end(typed: Typed, name: str) -> dict[str, Any]:
    """Watch a run until it is finished; what is shown of it then."""
    ended = typed("run", "watch", name)
    assert ended["state"] == "finished"
    return ended


def receipts_of(typed: Typed, site: str) -> list[dict[str, Any]]:
    """A site's receipts, once there is one for each round."""
    found = typed("site", "receipts", "--folder", site)["receipts"]
    return found if len(found) == 2 else []
