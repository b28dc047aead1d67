"""The root's folder: what it signed last, and nothing signed twice."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from consortium import DAY, NAME, NOW, SERVER, entry, identity, roster

from fedvol.errors import (
    FolderLockedError,
    KeyFileError,
    RosterConflictError,
    RosterDuplicateError,
    RosterError,
    RosterRootError,
    SignatureError,
    SiteNotInRosterError,
    StoreError,
    UsageError,
)
from fedvol.identity import (
    IdentityKey,
    RootFolder,
    RootRecord,
    RosterDraft,
    ServerEntry,
    SignedRoster,
    SiteStatus,
    accept,
    next_roster,
)
from fedvol.identity.documents import write_document

DRAFT = RosterDraft(
    consortium=NAME,
    server=ServerEntry(identity=SERVER.public),
    sites=(entry("site-b"), entry("site-a")),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    RootFolder.create(tmp_path / "root", consortium=NAME)
    return tmp_path / "root"


def _signed(folder: Path, *, version: int) -> bytes:
    with RootFolder.opened(folder) as root:
        return root.sign(roster(version=version)).to_bytes()


def test_a_new_root(folder: Path) -> None:
    record = RootRecord.read(folder / "root.json")
    assert record.consortium == NAME
    assert IdentityKey.load(folder / "root.pem").public == record.root
    assert stat.S_IMODE((folder / "root.pem").stat().st_mode) == 0o600
    with RootFolder.opened(folder) as root:
        assert root.record == record
        assert root.last() is None


def test_a_root_is_never_replaced(folder: Path) -> None:
    before = (folder / "root.pem").read_bytes()
    with pytest.raises(KeyFileError, match="there already"):
        RootFolder.create(folder, consortium=NAME)
    assert (folder / "root.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["", " x", "x\n", "x" * 101])
def test_a_wrong_name_makes_no_root(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 to 100 letters"):
        RootFolder.create(tmp_path / "root", consortium=name)
    assert not (tmp_path / "root").exists()


def test_what_it_signs_is_kept_and_accepted(folder: Path) -> None:
    data = _signed(folder, version=1)
    with RootFolder.opened(folder) as root:
        assert root.copy_of(1).read_bytes() == data
        assert root.last() == roster()
        public = root.record.root
    signed = SignedRoster.parse(data, where="here")
    assert accept(signed, root=public, held=None, now=NOW, where="here") == roster()


def test_last_is_the_highest_version(folder: Path) -> None:
    for version in (9, 10, 2):
        _signed(folder, version=version)
    with RootFolder.opened(folder) as root:
        last = root.last()
    assert last is not None
    assert last.version == 10


def test_no_version_is_signed_twice(folder: Path) -> None:
    data = _signed(folder, version=1)
    with RootFolder.opened(folder) as root, pytest.raises(RosterConflictError, match="already"):
        root.sign(roster(entry("thief")))
    assert next((folder / "rosters").iterdir()).read_bytes() == data


def test_nothing_is_handed_out_that_is_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "rosters").write_text("in the way")
    with RootFolder.opened(folder) as root, pytest.raises(StoreError):
        root.sign(roster())


def test_the_roots_key_takes_no_part(folder: Path) -> None:
    with RootFolder.opened(folder) as root:
        own = ServerEntry(identity=root.record.root)
        with pytest.raises(RosterDuplicateError):
            root.sign(roster(server=own))
    assert not (folder / "rosters").exists()


def test_a_second_process_waits_its_turn(folder: Path) -> None:
    with (
        RootFolder.opened(folder),
        pytest.raises(FolderLockedError),
        RootFolder.opened(folder),
    ):
        pytest.fail("must not get here")


@pytest.mark.parametrize("damage", ["changed", "cut", "another root's", "absent"])
def test_a_damaged_copy_is_told(damage: str, folder: Path, tmp_path: Path) -> None:
    _signed(folder, version=1)
    (copy,) = (folder / "rosters").iterdir()
    text = copy.read_text()
    match damage:
        case "changed":
            copy.write_text(text.replace("site-a", "site-x"))
            wanted: type[Exception] = SignatureError
        case "cut":
            copy.write_text(text[:-1])
            wanted = RosterError
        case "absent":
            copy.unlink()
            copy.symlink_to(tmp_path / "nowhere")
            wanted = RosterError
        case _:
            copy.write_bytes(SignedRoster.sign(roster(), root=identity("thief")).to_bytes())
            wanted = RosterRootError
    with RootFolder.opened(folder) as root, pytest.raises(wanted):
        root.last()


def test_an_older_backup_is_told_what_was_signed_since(folder: Path, tmp_path: Path) -> None:
    handed_out = tmp_path / "handed-out.json"
    handed_out.write_bytes(_signed(folder, version=2))
    next((folder / "rosters").iterdir()).unlink()
    with RootFolder.opened(folder) as root:
        assert root.last(known=handed_out) == roster(version=2)
        root.sign(roster(version=1))
        assert root.last(known=handed_out) == roster(version=2)
        root.sign(roster(version=3))
        assert root.last(known=handed_out) == roster(version=3)
        with pytest.raises(RosterError):
            root.last(known=tmp_path / "absent.json")


def test_two_copies_of_the_root_that_disagree_are_told(folder: Path, tmp_path: Path) -> None:
    handed_out = tmp_path / "handed-out.json"
    handed_out.write_bytes(_signed(folder, version=1))
    next((folder / "rosters").iterdir()).unlink()
    with RootFolder.opened(folder) as root:
        root.sign(roster(entry("site-a")))
        with pytest.raises(RosterConflictError, match="another roster"):
            root.last(known=handed_out)


@pytest.mark.parametrize("damage", ["absent", "changed key", "record", "no record"])
def test_a_damaged_root_is_told(damage: str, folder: Path, tmp_path: Path) -> None:
    wanted: type[Exception] = KeyFileError
    match damage:
        case "absent":
            (folder / "root.pem").unlink()
        case "changed key":
            (folder / "root.pem").unlink()
            IdentityKey.create(folder / "root.pem")
        case "record":
            (folder / "root.json").write_text("{}")
            wanted = RosterError
        case _:
            (folder / "root.json").unlink()
            wanted = RosterError
    with pytest.raises(wanted), RootFolder.opened(folder):
        pytest.fail("must not get here")


def test_a_folder_that_is_no_root_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(RosterError), RootFolder.opened(tmp_path / "nothing"):
        pytest.fail("must not get here")
    assert not (tmp_path / "nothing").exists()


def test_a_root_may_have_a_passphrase(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("correct horse battery")
    RootFolder.create(tmp_path / "root", consortium=NAME, passphrase_file=secret)
    with RootFolder.opened(tmp_path / "root", passphrase_file=secret) as root:
        root.sign(roster())
    with pytest.raises(KeyFileError, match="encrypted"), RootFolder.opened(tmp_path / "root"):
        pytest.fail("must not get here")


def test_a_draft_is_read_however_it_is_spelled(tmp_path: Path) -> None:
    path = tmp_path / "draft.json"
    path.write_text(DRAFT.model_dump_json(indent=2))
    assert RosterDraft.read(path) == DRAFT
    path.write_text(DRAFT.model_dump_json().replace('"site-b"', '"site-a"'))
    with pytest.raises(RosterDuplicateError):
        RosterDraft.read(path)
    path.write_text("{}")
    with pytest.raises(RosterError, match="its field consortium is wrong"):
        RosterDraft.read(path)
    with pytest.raises(RosterError, match="cannot be read"):
        RosterDraft.read(tmp_path / "absent.json")


def test_the_next_roster_has_the_next_version_and_holds_from_now() -> None:
    first = next_roster(DRAFT, consortium=NAME, last=None, now=NOW, days=180)
    assert (first.version, first.sites) == (1, DRAFT.sites)
    assert first.not_before == NOW - timedelta(hours=1)
    assert first.not_after == NOW + 180 * DAY
    second = next_roster(DRAFT, consortium=NAME, last=first, now=NOW, days=1)
    assert (second.version, second.not_after) == (2, NOW + DAY)
    assert write_document(first) != write_document(second)


def test_a_draft_of_another_consortium_is_refused() -> None:
    with pytest.raises(RosterError, match="another consortium"):
        next_roster(DRAFT, consortium="Five Hospitals", last=None, now=NOW, days=1)


def test_a_clock_that_fell_back_is_told() -> None:
    last = roster(not_before=NOW, not_after=NOW + DAY)
    assert next_roster(DRAFT, consortium=NAME, last=last, now=NOW, days=1)
    with pytest.raises(RosterError, match="the clock here says 2026-06-01T11:59:59Z"):
        next_roster(DRAFT, consortium=NAME, last=last, now=NOW - timedelta(seconds=1), days=1)


def test_revoking_changes_one_status_and_nothing_else() -> None:
    last = roster(entry("a"), entry("b"), entry("c", status=SiteStatus.SUSPENDED))
    draft = RosterDraft.revoking("b", last=last)
    assert draft.sites == (
        entry("a"),
        entry("b", status=SiteStatus.REVOKED),
        entry("c", status=SiteStatus.SUSPENDED),
    )
    assert (draft.consortium, draft.server) == (last.consortium, last.server)
    assert RosterDraft.revoking("c", last=last).sites[2].status is SiteStatus.REVOKED


def test_revoking_needs_a_site_that_is_not_revoked() -> None:
    last = roster(entry("a", status=SiteStatus.REVOKED))
    with pytest.raises(UsageError, match="revoked already"):
        RosterDraft.revoking("a", last=last)
    with pytest.raises(SiteNotInRosterError):
        RosterDraft.revoking("z", last=last)
