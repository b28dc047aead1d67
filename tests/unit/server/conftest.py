"""A server's folder, without listeners."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_parties import Consortium, make_consortium

from fedvol.identity import RootFolder
from fedvol.server.server_state import ServerState


@pytest.fixture(scope="session")
def made_consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return make_consortium(tmp_path_factory.mktemp("consortium") / "made")


@pytest.fixture
def consortium(made_consortium: Consortium, tmp_path: Path) -> Consortium:
    """A copy of one that was made once: keys and tables take a while to reach the disk."""
    folder = tmp_path / "consortium"
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
