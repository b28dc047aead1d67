"""Whatever `site.toml` holds, loading it gives a site or one error that names every problem."""

from pathlib import Path

import pytest

from fedvol.config import load_site
from fedvol.config.site_loading import parse_site
from fedvol.errors import ConfigFileError, SiteFileError

HEAD = 'version = 1\nsite = "a"\nserver = "server.example:443"\n'


def _wrong(text: str) -> dict[str, str]:
    with pytest.raises(SiteFileError) as caught:
        parse_site(text, where="site.toml")
    return {problem.where: problem.what for problem in caught.value.problems}


def test_the_shortest_file() -> None:
    config = parse_site(HEAD, where="site.toml")
    assert (config.policy.min_group, config.policy.min_cohort) == (10, 10)
    assert not config.auto_approve.enabled


def test_every_problem_at_once() -> None:
    assert _wrong(
        'version = 1\nsite = "a"\nserver = "x"\npolicy = { min_grup = 1, max_rounds = 0 }\n'
    ) == {
        "policy.min_grup": "unknown key",
        "policy.max_rounds": "0 is below 1",
    }


def test_what_the_schema_does_not_see() -> None:
    source = '[[data]]\nname = "ct"\nfolder = "x"\nchannels = ["CT", "CT"]\nlabels = {a=1, b=1}\n'
    wrong = _wrong(
        'version = 1\nsite = "a"\nserver = "server.example"\n'
        '[policy]\nhours = { begin = "07:00", end = "07:00", days = ["mon", "mon"] }\n'
        '[link]\nproxy = "http://user:secret@proxy:3128"\n' + source * 2
    )
    assert set(wrong) == {
        "server",
        "policy.hours.end",
        "policy.hours.days",
        "link.proxy",
        "data[0].channels",
        "data[0].labels",
        "data[1].name",
        "data[1].channels",
        "data[1].labels",
    }


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ('[link]\nproxy_credentials = "p"\n', "link.proxy_credentials"),
        ('[auto_approve]\nstudies = ["x"]\n', "auto_approve.studies"),
        ("[auto_approve]\nenabled = true\n", "auto_approve.studies"),
    ],
)
def test_a_setting_without_effect_is_an_error(more: str, where: str) -> None:
    assert list(_wrong(HEAD + more)) == [where]


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="there is no such file"):
        load_site(tmp_path / "site.toml")


def test_every_kind_of_network_can_be_allowed() -> None:
    from typing import get_args

    from fedvol.config.network import Network
    from fedvol.config.places import kinds
    from fedvol.config.site import NetworkKind

    assert set(get_args(NetworkKind)) == set(kinds(Network))


def test_every_pretext_task_can_be_allowed() -> None:
    from typing import get_args

    from fedvol.config.places import kinds
    from fedvol.config.pretext import PretextTask
    from fedvol.config.site import PretextKind

    assert set(get_args(PretextKind)) == set(kinds(PretextTask))


@pytest.mark.parametrize("server", ["server.example", "1.2.3:443", "server.example:0", "[::g]:443"])
def test_what_is_no_server(server: str) -> None:
    assert set(_wrong(HEAD.replace("server.example:443", server))) == {"server"}


@pytest.mark.parametrize(
    "proxy", ["http://proxy:3128", "https://10.0.0.1", "http://[::1]:3128", "http://proxy:3128/"]
)
def test_what_is_a_proxy(proxy: str) -> None:
    text = f'{HEAD}[link]\nproxy = "{proxy}"\n'
    assert parse_site(text, where="site.toml").link.proxy == proxy


@pytest.mark.parametrize(
    "proxy",
    [
        "proxy:3128",
        "socks5://proxy:3128",
        "http://user@proxy:3128",
        "http://proxy:port",
        "http://proxy:99999",
        "http://:3128",
        "http://[::g]:3128",
        "http://proxy:3128/path",
        "http://proxy:3128?query",
        "http://proxy: 3128",
    ],
)
def test_what_is_no_proxy(proxy: str) -> None:
    assert set(_wrong(f'{HEAD}[link]\nproxy = "{proxy}"\n')) == {"link.proxy"}
