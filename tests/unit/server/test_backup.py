"""A backup holds what a server needs to go on, and a restored one says that it was turned back."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from audit_logs import answer, receipt, received, record, reply, sent
from postgresql import PostgreSQL
from queued_runs import FIRST, A, B, Here, propose, run_state
from server_parties import Consortium, Hospital, make_consortium

from fedvol.audit import AuditLog, KnownHead, LogLine, compare_logs, verify_log
from fedvol.config.server import store_text
from fedvol.errors import AuditError, BackupError, FolderLockedError, StoreError, UsageError
from fedvol.federation import RunState
from fedvol.files import locked_folder
from fedvol.identity import write_moment
from fedvol.server.backup import take_backup
from fedvol.server.restored_from import RestoredFrom
from fedvol.server.restoring import RESTORE, Restored, restore_server
from fedvol.server.server_state import ServerState
from fedvol.store import BlobStore, CheckpointKind, Role, Wanted
from fedvol.types import RunId

Fedvol = Callable[..., object]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.backup"


def restored(file: Path, folder: Path, **other: str | None) -> tuple[Restored, ServerState]:
    folder.mkdir()
    done = restore_server(file, into=folder, **other)
    return done, ServerState.open(folder)


def events(log: Path) -> list[dict[str, object]]:
    """What an audit log tells, checkpoints aside."""
    lines: list[LogLine] = []
    verify_log(log, take=lines.append)
    return [one.event for one in lines if one.event["kind"] != "checkpoint"]


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_a_restored_server_goes_on_where_the_backup_was_taken(
    state: ServerState,
    consortium: Consortium,
    file: Path,
    tmp_path: Path,
    target: str,
    request: pytest.FixtureRequest,
) -> None:
    consortium.join(state, Hospital(name="a"), Hospital(name="b"))
    propose(state, FIRST, A, B)

    def back_up(run: RunId, closed: int) -> None:
        if closed == 2:  # in the midst of a run
            take_backup(consortium.folder, file)

    Here(state, between=back_up).queue.step()
    expected = state.runs.checkpoints(FIRST, kind=CheckpointKind.RELEASE)
    state.store.people.add("later", role=Role.AUDITOR, token="1" * 64)
    assert run_state(state, FIRST)[0] is RunState.FINISHED

    other: dict[str, str | None] = {}
    if target == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        url = server.url(server.new_place(), with_password=False)
        other = {
            "store": store_text(url, has_password=True),
            "store_password": server.password,
        }
    done, again = restored(file, tmp_path / "again", **other)
    assert (done.num_runs, done.num_sites, done.num_users) == (1, 2, 1)
    assert (done.roster, done.paused, done.facts.left_out) == (1, (FIRST,), ())
    assert run_state(again, FIRST)[::2] == (RunState.PAUSED, Wanted.PAUSED)
    assert len(again.runs.rounds(FIRST)) == 2
    assert again.registry.active() == (A, B)
    here = Here(again)
    assert not here.queue.step()
    again.store.agreements.want(FIRST, Wanted.STARTED, by="ada")
    here.queue.step()
    assert run_state(again, FIRST)[0] is RunState.FINISHED
    assert here.links[0].trained == [(B, 3), (A, 3)]
    assert again.runs.checkpoints(FIRST, kind=CheckpointKind.RELEASE) == expected
    BlobStore(again.folder.blobs(FIRST)).open(expected[0].digest).close()
    assert [one.user for one in again.store.people.actions()][-1] == RESTORE
    again.close()


def test_every_file_is_in_the_manifest_and_none_that_is_made_anew(
    state: ServerState, consortium: Consortium, file: Path
) -> None:
    initial = state.folder.initial("first")
    initial.parent.mkdir(parents=True)
    initial.write_bytes(b"weights")
    (initial.parent / "incoming-7").write_bytes(b"half")
    (initial.parent / ".x.safetensors").write_bytes(b"half")
    for name in ("flower.db", "events.jsonl"):
        (consortium.folder / name).write_bytes(b"{}\n")
    told = take_backup(consortium.folder, file)
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as tar:
        names = tar.getnames()
        content = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    manifest = content.pop("manifest.json")
    assert sha256(manifest).hexdigest() == told.digest
    assert names[-1] == "manifest.json"
    assert sorted(content) == [
        "audit.jsonl",
        "blobs/first/initial.safetensors",
        "events.jsonl",
        "keys/identity.pem",
        "records.jsonl",
        "root.json",
        "server.toml",
        "tls/authority.pem",
        "tls/server.pem",
    ]
    assert {name: one["digest"] for name, one in json.loads(manifest)["files"].items()} == {
        name: sha256(data).hexdigest() for name, data in content.items()
    }
    assert [path.name for path in state.folder.backing_up.iterdir()] == [".lock"]


def test_weights_that_are_removed_meanwhile_are_in_it(
    state: ServerState, consortium: Consortium, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = state.folder.initial("first")
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")

    def removing(path: Path, **_: object) -> object:
        blob.unlink()
        return verify_log(path)

    monkeypatch.setattr("fedvol.server.backup.verify_log", removing)
    take_backup(consortium.folder, file)
    with tarfile.open(file) as tar:
        assert tar.extractfile("blobs/first/initial.safetensors").read() == b"weights"  # type: ignore[union-attr]


def test_files_outside_the_folder_are_named(consortium: Consortium, file: Path) -> None:
    outside = consortium.folder.parent / "tls"
    outside.mkdir()
    for name in ("chain.pem", "key.pem"):
        (outside / name).write_text("x")
    (consortium.folder / "authority.pem").write_text("x")
    config = consortium.folder / "server.toml"
    config.write_text(
        config.read_text()
        + '\n[certificate]\nkind = "files"\nchain = "../tls/chain.pem"\n'
        + 'authority = "authority.pem"\n'
        + f"key = {json.dumps(str(outside / 'key.pem'))}\n"
    )
    told = take_backup(consortium.folder, file)
    assert told.facts.left_out == ("../tls/chain.pem", str(outside / "key.pem"))
    with tarfile.open(file) as tar:
        assert "authority.pem" in tar.getnames()


def test_where_a_backup_cannot_be_written(consortium: Consortium, file: Path) -> None:
    with pytest.raises(UsageError, match="own folder"):
        take_backup(consortium.folder, consortium.folder / "blobs" / "b")
    with locked_folder(consortium.folder / "backup"), pytest.raises(FolderLockedError):
        take_backup(consortium.folder, file)
    file.write_text("kept")
    with pytest.raises(UsageError, match="already"):
        take_backup(consortium.folder, file)
    assert file.read_text() == "kept"


def test_both_logs_say_what_was_done(
    state: ServerState, consortium: Consortium, file: Path, tmp_path: Path
) -> None:
    first = take_backup(consortium.folder, file)
    take_backup(consortium.folder, tmp_path / "second.backup")
    log = consortium.folder / "audit.jsonl"
    assert [one["kind"] for one in events(log)] == ["backup", "backup"]
    noted = verify_log(log)
    done, again = restored(file, tmp_path / "again")
    again.close()
    (told,) = events(again.folder.audit)
    assert (told["kind"], told["backup"], told["records"]) == ("restored", first.digest, 0)
    assert done.digest == first.digest
    # Whoever noted the head of the log knows that it was turned back.
    with pytest.raises(AuditError):
        verify_log(again.folder.audit, against=KnownHead(records=noted.records, head=noted.head))
    verify_log(again.folder.audit, keys=[state.key.public.hex])


def test_a_sites_log_shows_what_the_restored_server_forgot(
    state: ServerState, consortium: Consortium, file: Path, tmp_path: Path, fedvol: Fedvol
) -> None:
    site = tmp_path / "site.jsonl"
    with AuditLog(site) as ours, AuditLog(consortium.folder / "audit.jsonl") as theirs:

        def exchange(number: int) -> None:
            theirs.append(sent(number))
            for event in (record(number), received(number), answer(number)):
                ours.append(event)
            theirs.append(reply(number))
            theirs.append(receipt(number))
            ours.append(receipt(number))

        exchange(1)
        told = take_backup(consortium.folder, file)
        exchange(2)
    assert compare_logs(site, consortium.folder / "audit.jsonl").num_contradictions == 0
    _, again = restored(file, tmp_path / "again")
    again.close()
    ended = fedvol("audit", "compare", site, again.folder.audit, "--json")
    found = json.loads(ended.out)
    assert ended.status == 4
    assert (found["contradictions"], found["contradictions_after_backup"]) == (2, 2)
    assert [one["backup"] for one in found["restores"]] == [told.digest]
    for one in (*found["requests"]["never_sent"], *found["receipted"]):
        assert one["after_backup"] == told.digest
    assert found["contributions"]["num_both"] == 1
    taken = f"after the backup of {told.facts.taken:%Y-%m-%d %H:%M}, restored "
    assert ended.err.count(taken) == 3  # and an answer that was not taken
    assert "Of these 2 fall between a backup and the restoration from it" in ended.err


def test_status_tells_of_the_last_restore(
    consortium: Consortium, file: Path, tmp_path: Path
) -> None:
    first = take_backup(consortium.folder, file)
    _, again = restored(file, tmp_path / "again")
    again.close()
    second = take_backup(again.folder.folder, tmp_path / "second.backup")
    _, once_more = restored(tmp_path / "second.backup", tmp_path / "once more")
    once_more.close()
    for place, told in ((again.folder, first), (once_more.folder, second)):
        found = RestoredFrom.read(place.restored)
        assert found is not None
        assert (found.backup, found.taken) == (told.digest, write_moment(told.facts.taken))
    assert RestoredFrom.read(consortium.folder / "restored.json") is None


def damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    match how:
        case "empty":
            data.clear()
        case "other":
            data[:] = b"no backup" * 1000
        case "records":
            data[data.index(b'"revisions"') + 3] ^= 1
        case "manifest":
            data[data.rindex(b'"digest":"') + 12] ^= 1
        case "end":
            del data[data.index(b"manifest.json") :]
        case "middle":
            del data[data.index(b"root.json") + 700 :]
    file.write_bytes(data)


@pytest.mark.parametrize("how", ["empty", "other", "records", "manifest", "end", "middle"])
def test_a_damaged_backup_leaves_nothing(
    consortium: Consortium, file: Path, tmp_path: Path, fedvol: Fedvol, how: str
) -> None:
    take_backup(consortium.folder, file)
    damage(file, how)
    ended = fedvol("server", "restore", file, tmp_path / "again")
    assert (ended.status, "FV-STORE-011" in ended.err) == (7, True)
    assert not list(tmp_path.glob("*again*"))


def test_a_folder_is_never_written_over(
    consortium: Consortium, file: Path, tmp_path: Path, fedvol: Fedvol
) -> None:
    take_backup(consortium.folder, file)
    kept = tmp_path / "again" / "kept"
    kept.parent.mkdir()
    kept.write_text("")
    assert fedvol("server", "restore", file, kept.parent).status == 2
    assert list(kept.parent.iterdir()) == [kept]


def add_member(file: Path, name: str) -> None:
    with tarfile.open(file, "w") as tar:
        tar.addfile(tarfile.TarInfo(name))


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "keys/../../outside"])
def test_no_file_leaves_the_folder(file: Path, tmp_path: Path, name: str) -> None:
    add_member(file, name)
    (tmp_path / "again").mkdir()
    with pytest.raises(BackupError, match="which no backup does"):
        restore_server(file, into=tmp_path / "again")


KILLED = """
import os, signal, sys
from pathlib import Path
from fedvol.cli.main import main
from fedvol.server import backup, backup_file, restoring

PLACES = [
    (backup, "_pin"), (backup, "_copy_log"), (backup_file, "_add"), (backup, "AuditLog"),
    (backup_file, "_extract"), (restoring, "load_records"), (restoring, "_settled"),
    (restoring, "sync_tree"), (Path, "rename"),
]

def dies_at(fatal):
    calls = 0
    def counted(call):
        def counting(*args, **other):
            nonlocal calls
            calls += 1
            if calls == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **other)
        return counting
    for owner, name in PLACES:
        setattr(owner, name, counted(getattr(owner, name)))

def kills(words, target, is_whole):
    num_killed, fatal = 0, 1
    while True:
        child = os.fork()
        if child == 0:
            dies_at(fatal)
            os._exit(main(words))
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return num_killed
        assert not target.exists() or is_whole(target), fatal
        if target.is_file():
            target.unlink()
        num_killed, fatal = num_killed + 1, fatal + int(sys.argv[1])

def is_whole(file):
    into = Path(f"{file}.read")
    into.mkdir()
    backup_file.read_backup(file, into=into)
    return True

file, again = Path("server.backup"), Path("again")
print(kills(["server", "backup", "server", str(file)], file, is_whole))
print(kills(["server", "restore", str(file), str(again)], again, lambda _: False))
"""


@pytest.mark.parametrize(
    ("step", "num_killed"), [(4, 3), pytest.param(1, 11, marks=pytest.mark.full)]
)
def test_killed_anywhere_a_backup_or_a_server_is_whole_or_not_there(
    consortium: Consortium, step: int, num_killed: int
) -> None:
    folder = consortium.folder.parent
    words = [sys.executable, "-c", KILLED, str(step)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # What the children wrote of their own stands between.
    told = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert told == [str(num_killed)] * 2
    for name in ("server", "again"):
        state = ServerState.open(folder / name)
        assert [user.name for user in state.store.people.users()] == ["operator"]
        state.close()
    left = {path.name for path in folder.iterdir()} - {"root", "server", "server.backup", "again"}
    assert all(name.endswith((".part", ".read")) for name in left), left


def test_records_go_where_they_are_told(consortium: Consortium, file: Path, tmp_path: Path) -> None:
    config, database = consortium.folder / "server.toml", tmp_path / "elsewhere.db"
    plain = config.read_text()
    store = f'\n[store]\n# here\nurl = "sqlite:///{database}"\n'
    config.write_text(f"{plain}{store}\n[waiting]\nfor_all_s = 1.0\n")
    take_backup(consortium.folder, file)
    with pytest.raises(StoreError, match="holds records already"):
        restored(file, tmp_path / "same")
    _, again = restored(file, tmp_path / "again", store="")
    assert again.folder.store == tmp_path / "again" / "server.db"
    assert again.config.waiting.for_all_s == 1.0
    again.close()

    config.write_text(f'store.url = "sqlite:///{database}"\n{plain}')
    second = tmp_path / "second.backup"
    take_backup(consortium.folder, second)
    with pytest.raises(UsageError, match=r"not in a section \[store\]"):
        restored(second, tmp_path / "third", store="")


def test_a_server_wants_an_empty_database(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = server.url(server.new_place(), with_password=False)
    make_consortium(tmp_path / "one", store=url, store_password=server.password)
    with pytest.raises(StoreError, match="holds records already"):
        make_consortium(tmp_path / "two", store=url, store_password=server.password)
