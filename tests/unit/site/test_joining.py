"""A hospital joins a server: TLS on loopback, an invitation used once, keys that never leave."""

import json
from pathlib import Path

import pytest
from conftest import Command
from hospital import SITE, Server, joined, now

from fedvol.errors import InvitationError, InvitationExpiredError
from fedvol.identity import IdentityKey
from fedvol.site import SiteFolder, init_site, take_invitation


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(folder=tmp_path / "server")


def test_from_the_invitation_to_a_site_that_waits(
    tmp_path: Path, server: Server, fedvol: Command
) -> None:
    folder = tmp_path / "site"
    made = fedvol("site", "init", "--folder", folder, "--invitation", server.invite(), "--json")
    assert made.status == 0, made.err
    fingerprint = json.loads(made.out)["fingerprint"]
    assert fingerprint in made.err
    with server.listening():
        done = fedvol("site", "enrol", "--folder", folder, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out) == {
        "site": SITE,
        "status": "waiting",
        "fingerprint": fingerprint,
    }
    held = SiteFolder(folder=folder)
    assert server.enrolled[SITE][0] == held.identity().public
    assert not held.token_file.exists()
    for path in (held.identity_file, held.node_file, held.resampling_file):
        assert path.stat().st_mode & 0o077 == 0
    status = fedvol("site", "status", "--folder", folder, "--json")
    said = json.loads(status.out)
    assert (said["enrolled"], said["roster"], said["process"]) == (True, None, None)


def test_an_invitation_from_a_file_or_the_keyboard(
    tmp_path: Path, server: Server, fedvol: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    line = tmp_path / "line"
    line.write_text(server.invite() + "\n")
    assert (
        fedvol("site", "init", "--folder", tmp_path / "b", "--invitation", f"@{line}").status == 0
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(server.invite() + "\n"))
    assert fedvol("site", "init", "--folder", tmp_path / "c").status == 0
    absent = fedvol("site", "init", "--folder", tmp_path / "d", "--invitation", "@nowhere")
    assert absent.status == 6
    assert "cannot be read" in absent.err


def test_a_cut_line_makes_nothing(tmp_path: Path, server: Server, fedvol: Command) -> None:
    folder = tmp_path / "site"
    done = fedvol("site", "init", "--folder", folder, "--invitation", server.invite()[:-9])
    assert done.status == 6
    assert "FV-TRAN-022" in done.err
    assert not folder.exists()


def test_an_expired_invitation(tmp_path: Path, server: Server) -> None:
    with pytest.raises(InvitationExpiredError):
        init_site(
            SiteFolder(folder=tmp_path / "x"), server.invite(days=-1), device="cpu", now=now()
        )


def test_a_token_that_somebody_else_used(tmp_path: Path, server: Server, fedvol: Command) -> None:
    line = server.invite()
    thief, honest = tmp_path / "thief", tmp_path / "honest"
    for folder in (thief, honest):
        assert fedvol("site", "init", "--folder", folder, "--invitation", line).status == 0
    with server.listening():
        assert fedvol("site", "enrol", "--folder", thief).status == 0
        refused = fedvol("site", "enrol", "--folder", honest)
    assert refused.status == 6
    assert "FV-TRAN-024" in refused.err
    assert "telephone" in refused.err
    assert SiteFolder(folder=honest).token_file.exists()


def test_enrolling_again_with_the_same_keys(
    tmp_path: Path, server: Server, fedvol: Command
) -> None:
    """The server took it, and its answer was lost."""
    held = joined(tmp_path / "site", server)
    again = fedvol("site", "enrol", "--folder", held.folder)
    assert again.status == 2
    assert "enrolled already" in again.err
    take_invitation(held, server.invite(), now=now())
    with server.listening():
        assert fedvol("site", "enrol", "--folder", held.folder).status == 0
    assert server.enrolled[SITE][0] == held.identity().public


def test_a_second_site_in_one_folder(tmp_path: Path, server: Server, fedvol: Command) -> None:
    held = joined(tmp_path / "site", server)
    key = held.identity_file.read_bytes()
    done = fedvol("site", "init", "--folder", held.folder, "--invitation", server.invite())
    assert done.status == 2
    assert "holds a site already" in done.err
    assert held.identity_file.read_bytes() == key


def test_an_interrupted_init_keeps_its_keys(tmp_path: Path, server: Server) -> None:
    held = SiteFolder(folder=tmp_path / "site")
    key = IdentityKey.create(held.identity_file)
    init_site(held, server.invite(), device="cpu", now=now())
    assert held.identity().public == key.public


def test_a_new_invitation_must_be_of_the_same_consortium(tmp_path: Path, server: Server) -> None:
    held = joined(tmp_path / "site", server)
    other = Server(folder=tmp_path / "other", port=server.port)
    with pytest.raises(InvitationError, match="another root"):
        take_invitation(held, other.invite(), now=now())


def test_a_server_of_another_authority(tmp_path: Path, server: Server, fedvol: Command) -> None:
    folder = tmp_path / "site"
    other = Server(folder=tmp_path / "other", port=server.port)
    assert fedvol("site", "init", "--folder", folder, "--invitation", server.invite()).status == 0
    with other.listening():
        done = fedvol("site", "enrol", "--folder", folder)
    assert done.status == 6
    assert "TLS:" in done.err
    assert other.enrolled == {}


def test_nobody_listens(tmp_path: Path, server: Server, fedvol: Command) -> None:
    folder = tmp_path / "site"
    assert fedvol("site", "init", "--folder", folder, "--invitation", server.invite()).status == 0
    done = fedvol("site", "enrol", "--folder", folder)
    assert done.status == 6
    assert "FV-TRAN-003" in done.err


def test_no_site_here(tmp_path: Path, fedvol: Command) -> None:
    done = fedvol("site", "status", "--folder", tmp_path)
    assert done.status == 2
    assert "fedvol site init" in done.err
