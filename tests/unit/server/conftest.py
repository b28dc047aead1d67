"""A server's folder, without listeners."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgresql import PostgreSQL
from server_parties import Consortium, make_consortium

from fedvol.identity import RootFolder
from fedvol.server.server_state import ServerState


@pytest.fixture(scope="session")
def made_consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return make_consortium(tmp_path_factory.mktemp("consortium") / "made")


@pytest.fixture
def consortium(request: pytest.FixtureRequest, tmp_path: Path) -> Consortium:
    """A copy of one that was made once: keys and tables take a while to reach the disk.

    Tests with the parameter `postgresql` have its records in a PostgreSQL.
    """
    folder = tmp_path / "consortium"
    if getattr(request, "param", "sqlite") == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        url = server.url(server.new_place(), with_password=False)
        return make_consortium(folder, store=url, store_password=server.password)
    made_consortium: Consortium = request.getfixturevalue("made_consortium")
    shutil.copytree(made_consortium.folder.parent, folder)
    root = RootFolder(
        folder / "root", key=made_consortium.root._key, record=made_consortium.root.record
    )
    return Consortium(root=root, folder=folder / "server", token=made_consortium.token)


@pytest.fixture
def state(consortium: Consortium) -> Iterator[ServerState]:
    state = ServerState.open(consortium.folder)
    yield state
    state.close()
