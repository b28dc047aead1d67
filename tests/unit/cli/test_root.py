"""`fedvol root`: a root is made, signs, and revokes; nothing is signed unseen or unasked."""

import io
import json
import socket
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import Command, Ended
from consortium import NAME, SERVER, entry

from fedvol.identity import (
    PublicKey,
    Roster,
    RosterDraft,
    ServerEntry,
    SignedRoster,
    SiteEntry,
    SiteStatus,
    accept,
)

Answer = Callable[[str], None]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", opened)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Types something at the next question."""

    def type_it(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return type_it


@pytest.fixture
def folder(tmp_path: Path, fedvol: Command) -> Path:
    path = tmp_path / "root"
    assert fedvol("root", "init", "--out", path, "--consortium", NAME).status == 0
    return path


def _draft(folder: Path, *sites: SiteEntry) -> Path:
    draft = RosterDraft(consortium=NAME, server=ServerEntry(identity=SERVER.public), sites=sites)
    path = folder / "draft.json"
    path.write_text(draft.model_dump_json())
    return path


def _roster(path: Path, folder: Path) -> Roster:
    root = PublicKey(json.loads((folder / "root.json").read_text())["root"])
    signed = SignedRoster.parse(path.read_bytes(), where="here")
    return accept(signed, root=root, held=None, now=datetime.now(UTC), where="here")


def _json(ended: Ended) -> dict:
    assert ended.status == 0, ended.err
    return json.loads(ended.out.splitlines()[-1])


def test_init(tmp_path: Path, fedvol: Command) -> None:
    out = tmp_path / "root"
    ended = fedvol("root", "init", "--out", out, "--consortium", NAME, "--json")
    said = _json(ended)
    record = json.loads((out / "root.json").read_text())
    assert record == {"format": "fedvol.root/1", "consortium": NAME, "root": said["root"]}
    assert said["fingerprint"] == PublicKey(said["root"]).fingerprint
    assert f"Fingerprint: {said['fingerprint']}\n" in ended.err
    assert "whoever has the folder is the root" in ended.err
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert stat.S_IMODE((out / "root.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in out.iterdir()) == ["root.json", "root.pem"]


def test_init_with_a_passphrase(tmp_path: Path, fedvol: Command) -> None:
    secret, out = tmp_path / "passphrase", tmp_path / "root"
    secret.touch(mode=0o600)
    secret.write_text("correct horse battery")
    words = ["root", "init", "--out", out, "--consortium", NAME, "--passphrase-file", secret]
    ended = fedvol(*words)
    assert ended.status == 0
    assert "no passphrase" not in ended.err
    assert b"ENCRYPTED" in (out / "root.pem").read_bytes()
    signing = ["root", "sign-roster", _draft(tmp_path, entry("a")), "--key", out, "--yes"]
    ended = fedvol(*signing, "--out", tmp_path / "1.json")
    assert ended.status == 6
    assert "the key is encrypted" in ended.err
    ended = fedvol(*signing, "--out", tmp_path / "1.json", "--passphrase-file", secret)
    assert ended.status == 0


@pytest.mark.parametrize("name", ["", "a\nb"])
def test_init_with_a_wrong_name_leaves_nothing(name: str, tmp_path: Path, fedvol: Command) -> None:
    assert fedvol("root", "init", "--out", tmp_path / "root", "--consortium", name).status == 2
    assert list(tmp_path.iterdir()) == []


def test_init_never_replaces_a_root(folder: Path, fedvol: Command) -> None:
    before = (folder / "root.pem").read_bytes()
    ended = fedvol("root", "init", "--out", folder, "--consortium", NAME)
    assert ended.status == 2
    assert "FV-CONF-003" in ended.err
    assert (folder / "root.pem").read_bytes() == before


def test_the_first_roster(folder: Path, tmp_path: Path, fedvol: Command, answer: Answer) -> None:
    draft, out = _draft(tmp_path, entry("a"), entry("b")), tmp_path / "roster.json"
    answer("yes\n")
    ended = fedvol("root", "sign-roster", draft, "--key", folder, "--out", out, "--json")
    said = _json(ended)
    signed = _roster(out, folder)
    assert (signed.version, len(signed.sites)) == (1, 2)
    assert said["digest"] == signed.digest
    assert [(one["kind"], one["site"]) for one in said["changes"]] == [
        ("server", ""),
        ("joined", "a"),
        ("joined", "b"),
    ]
    for shown in (SERVER.public.fingerprint, entry("a").fingerprint, entry("b").fingerprint):
        assert f"Fingerprint: {shown}\n" in ended.err
    assert "Compare each fingerprint with its owner" in ended.err
    assert "Sign it? Type yes: " in ended.err
    kept = list((folder / "rosters").iterdir())
    assert [path.read_bytes() for path in kept] == [out.read_bytes()]


@pytest.mark.parametrize("typed", ["", "\n", "y\n", "no\n", "YES\n", "yes please\n"])
def test_nothing_is_signed_without_a_yes(
    typed: str, folder: Path, tmp_path: Path, fedvol: Command, answer: Answer
) -> None:
    out = tmp_path / "roster.json"
    answer(typed)
    ended = fedvol("root", "sign-roster", _draft(tmp_path), "--key", folder, "--out", out)
    assert ended.status == 2
    assert "it was not confirmed" in ended.err
    assert not out.exists()
    assert not (folder / "rosters").exists()


def test_each_roster_shows_what_changed_since_the_last(
    folder: Path, tmp_path: Path, fedvol: Command
) -> None:
    def sign(number: int, *sites: SiteEntry) -> tuple[Ended, Roster]:
        out = tmp_path / f"{number}.json"
        words = ["root", "sign-roster", _draft(tmp_path, *sites), "--key", folder, "--yes"]
        ended = fedvol(*words, "--out", out)
        assert ended.status == 0, ended.err
        return ended, _roster(out, folder)

    sign(1, entry("a"), entry("b"), entry("c"))
    ended, second = sign(
        2,
        entry("a", status=SiteStatus.SUSPENDED),
        entry("b", status=SiteStatus.REVOKED),
        entry("c", keys="x"),
        entry("d"),
    )
    assert second.version == 2
    keys = entry("c", keys="x").fingerprint
    for line in (
        "  a is suspended.\n",
        "  b is revoked.\n",
        f"  c has new keys; the old ones hold no more. Fingerprint: {keys}\n",
        f"  d joins. Fingerprint: {entry('d').fingerprint}\n",
    ):
        assert line in ended.err
    assert "server" not in ended.err
    ended, third = sign(3, *second.sites)
    assert third.version == 3
    assert "Nobody joins or leaves; only the time changes." in ended.err
    assert "Compare" not in ended.err


def test_validity_is_as_asked(folder: Path, tmp_path: Path, fedvol: Command) -> None:
    words = ["root", "sign-roster", _draft(tmp_path), "--key", folder, "--yes"]
    assert fedvol(*words, "--out", tmp_path / "1.json").status == 0
    assert fedvol(*words, "--out", tmp_path / "2.json", "--days", "7").status == 0
    slack = timedelta(hours=1)
    for name, days in (("1.json", 180), ("2.json", 7)):
        signed = _roster(tmp_path / name, folder)
        assert signed.not_after - signed.not_before == timedelta(days=days) + slack
    for days in ("0", "731"):
        assert fedvol(*words, "--out", tmp_path / "3.json", "--days", days).status == 2


def test_revoke(folder: Path, tmp_path: Path, fedvol: Command, answer: Answer) -> None:
    draft = _draft(tmp_path, entry("a"), entry("b"))
    words = ["root", "sign-roster", draft, "--key", folder, "--out", tmp_path / "1.json", "--yes"]
    assert fedvol(*words).status == 0
    revoking = ["root", "revoke", "b", "--key", folder, "--out", tmp_path / "2.json"]
    answer("no\n")
    assert fedvol(*revoking).status == 2
    answer("yes\n")
    ended = fedvol(*revoking, "--json")
    said = _json(ended)
    assert "  b is revoked.\n" in ended.err
    assert said["changes"] == [{"kind": "revoked", "site": "b", "fingerprint": ""}]
    second = _roster(tmp_path / "2.json", folder)
    assert second.version == 2
    assert second.sites == (entry("a"), entry("b", status=SiteStatus.REVOKED))


def test_revoke_of_nobody(folder: Path, tmp_path: Path, fedvol: Command) -> None:
    out = tmp_path / "1.json"
    ended = fedvol("root", "revoke", "a", "--key", folder, "--out", out, "--yes")
    assert ended.status == 2
    assert "signed no roster yet" in ended.err
    draft = _draft(tmp_path, entry("a", status=SiteStatus.REVOKED))
    assert fedvol("root", "sign-roster", draft, "--key", folder, "--out", out, "--yes").status == 0
    words = ["--key", folder, "--out", tmp_path / "2.json", "--yes"]
    assert fedvol("root", "revoke", "a", *words).status == 2
    ended = fedvol("root", "revoke", "z", *words)
    assert ended.status == 6
    assert "FV-TRAN-020" in ended.err
    assert not (tmp_path / "2.json").exists()


def test_a_restored_backup_is_told_of_the_last_roster(
    folder: Path, tmp_path: Path, fedvol: Command
) -> None:
    words = ["root", "sign-roster", _draft(tmp_path, entry("a")), "--key", folder, "--yes"]
    for name in ("1.json", "2.json"):
        assert fedvol(*words, "--out", tmp_path / name).status == 0
    for kept in (folder / "rosters").iterdir():
        kept.unlink()
    last = ["--last", tmp_path / "2.json"]
    assert fedvol(*words, "--out", tmp_path / "3.json", *last).status == 0
    assert _roster(tmp_path / "3.json", folder).version == 3
    assert fedvol("root", "revoke", "a", *words[3:], "--out", tmp_path / "4.json").status == 0
    assert _roster(tmp_path / "4.json", folder).version == 4


@pytest.mark.parametrize("command", ["sign-roster", "revoke"])
def test_an_existing_file_is_not_replaced(
    command: str, folder: Path, tmp_path: Path, fedvol: Command
) -> None:
    out = tmp_path / "precious"
    out.write_text("precious")
    ended = fedvol("root", command, _draft(tmp_path), "--key", folder, "--out", out, "--yes")
    assert ended.status == 2
    assert "something is there already" in ended.err
    assert out.read_text() == "precious"
    assert not (folder / "rosters").exists()


def test_a_wrong_draft_is_told(folder: Path, tmp_path: Path, fedvol: Command) -> None:
    draft = tmp_path / "draft.json"
    words = ["root", "sign-roster", draft, "--key", folder, "--out", tmp_path / "1.json", "--yes"]
    ended = fedvol(*words, "--json")
    assert ended.status == 6
    assert json.loads(ended.out)["error"]["code"] == "FV-TRAN-013"
    _draft(tmp_path, entry("a"))
    draft.write_text(draft.read_text().replace(NAME, "Five Hospitals"))
    ended = fedvol(*words)
    assert ended.status == 6
    assert "another consortium" in ended.err
    assert not (folder / "rosters").exists()


def test_another_roots_last_roster_is_refused(
    folder: Path, tmp_path: Path, fedvol: Command
) -> None:
    other = tmp_path / "other"
    assert fedvol("root", "init", "--out", other, "--consortium", NAME).status == 0
    draft = _draft(tmp_path, entry("a"))
    signing = ["root", "sign-roster", draft, "--yes", "--out"]
    assert fedvol(*signing, tmp_path / "1.json", "--key", other).status == 0
    ended = fedvol(*signing, tmp_path / "2.json", "--key", folder, "--last", tmp_path / "1.json")
    assert ended.status == 6
    assert "FV-TRAN-014" in ended.err
