"""Each failure of the doctor names its fix, and none of them is to delete anything."""

from datetime import timedelta
from pathlib import Path

import pytest
from audit_logs import Noted
from conftest import Command
from hospital import Server, add_to_config, joined, now, source_toml

from fedvol.identity import SiteStatus
from fedvol.site import SiteFolder, pause, take_roster
from fedvol.site.doctor import (
    Finding,
    Verdict,
    check_clock,
    check_disk,
    check_keys,
    check_memory,
    check_names,
    check_pause,
    check_port,
    check_roster,
    check_server,
    check_shared_memory,
    check_sources,
    check_writing,
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(folder=tmp_path / "server")


@pytest.fixture
def held(tmp_path: Path, server: Server) -> SiteFolder:
    return joined(tmp_path / "site", server)


def require_fix(found: Finding) -> None:
    assert found.verdict is Verdict.WRONG
    assert found.fix
    assert "delete" not in found.fix.lower()
    assert "remove" not in found.fix.lower()


def test_a_sound_site_and_its_server(held: SiteFolder, server: Server) -> None:
    config = held.config()
    assert server.roster is not None
    take_roster(held, server.roster, audit=Noted(), now=now())
    with server.listening():
        found = [
            check_keys(held),
            check_roster(held, config, now=now()),
            check_writing(held),
            check_names(config),
            check_port(config),
            *check_server(held, config, now=now()),
        ]
    assert [(one.name, one.verdict.value, one.what) for one in found if one.verdict != "fine"] == []
    assert {one.name for one in found} >= {"server", "clock", "certificate"}


def test_a_key_that_others_may_read(held: SiteFolder) -> None:
    held.identity_file.chmod(0o644)
    require_fix(check_keys(held))


def test_rosters(held: SiteFolder, server: Server) -> None:
    config = held.config()
    require_fix(check_roster(held, config, now=now()))
    assert server.roster is not None
    take_roster(held, server.roster, audit=Noted(), now=now())
    assert check_roster(held, config, now=now() + timedelta(days=290)).verdict is Verdict.SOON
    early = check_roster(held, config, now=now() - timedelta(days=1))
    require_fix(early)
    assert early.what == "it does not hold yet"
    require_fix(check_roster(held, config, now=now() + timedelta(days=400)))
    server.sign_roster(status=SiteStatus.SUSPENDED)
    take_roster(held, server.roster, audit=Noted(), now=now())
    found = check_roster(held, config, now=now())
    require_fix(found)
    assert found.what == "this site is suspended"


def test_a_folder_that_cannot_be_written(held: SiteFolder) -> None:
    (held.folder / "cases").write_text("a file where a folder should be")
    require_fix(check_writing(held))


def test_looking_makes_no_folder(held: SiteFolder) -> None:
    before = sorted(held.folder.rglob("*"))
    assert check_writing(held).verdict is Verdict.FINE
    assert sorted(held.folder.rglob("*")) == before


def test_a_paused_site(held: SiteFolder) -> None:
    assert check_pause(held).verdict is Verdict.FINE
    pause(held, by="x", reason="", now=now())
    require_fix(check_pause(held))


def test_too_little_room(tmp_path: Path) -> None:
    require_fix(check_disk(tmp_path, at_least=1 << 60))
    require_fix(check_shared_memory(tmp_path, at_least=1 << 60))
    require_fix(check_shared_memory(tmp_path / "absent"))
    assert check_disk(tmp_path, at_least=1).verdict is Verdict.FINE


def test_the_container_limit_counts(tmp_path: Path) -> None:
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal: 99999999 kB\nMemAvailable: 16777216 kB\n")
    assert check_memory(meminfo, limit).what == "16.0 GiB available"
    limit.write_text("max\n")
    assert check_memory(meminfo, limit).verdict is Verdict.FINE
    limit.write_text(f"{1 << 30}\n")
    found = check_memory(meminfo, limit)
    require_fix(found)
    assert found.what == "1.0 GiB available"


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(1, Verdict.FINE), (200, Verdict.SOON), (400, Verdict.WRONG)]
)
def test_the_clock(seconds: int, verdict: Verdict) -> None:
    from email.utils import format_datetime

    there = now().replace(microsecond=0)
    found = check_clock(format_datetime(there), now=there - timedelta(seconds=seconds))
    assert found.verdict is verdict


def test_a_server_that_tells_no_time() -> None:
    assert check_clock("", now=now()).verdict is Verdict.SOON


def test_a_host_without_an_address(held: SiteFolder) -> None:
    text = held.config_file.read_text().replace("127.0.0.1", "nowhere.invalid")
    held.config_file.write_text(text)
    require_fix(check_names(held.config()))


def test_nobody_listens(held: SiteFolder) -> None:
    require_fix(check_port(held.config()))


def test_something_between_opens_the_connection(
    held: SiteFolder, server: Server, tmp_path: Path
) -> None:
    other = Server(folder=tmp_path / "other", port=server.port)
    with other.listening():
        (found,) = check_server(held, held.config(), now=now())
    require_fix(found)
    assert "inspects TLS" in found.fix


def test_a_source_that_is_gone(held: SiteFolder, tmp_path: Path) -> None:
    assert [one.verdict for one in check_sources(held, held.config())] == [Verdict.SOON]
    add_to_config(held, source_toml(tmp_path / "gone"))
    (found,) = check_sources(held, held.config())
    require_fix(found)


def test_the_command_tells_all_and_fails(held: SiteFolder, fedvol: Command) -> None:
    done = fedvol("site", "doctor", "--folder", held.folder, "--json")
    assert done.status == 1
    assert "wrong  roster: none has arrived yet." in done.err
    assert "wrong  port:" in done.err
    assert "fine   device: CPU: a convolution gives what it should." in done.err
