"""Ray's workers are closed in the midst of their work: nothing hangs, crashes or is left."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

CLOSE = """
import threading
import time
from tiny import Events
from worker_sites import FAILING_KEY, SITES, app_in_actor, request
from fedvol.transport import FlowerLink, RayWorkers, WorkerGrid, share_resources

class Stop(Exception): pass

def stop():
    time.sleep(5)  # the actors begin
    raise Stop

workers = RayWorkers(app_in_actor, resources=share_resources(2, num_gpus=0))
grid = WorkerGrid(
    workers,
    sites=SITES,
    node_config={site: {FAILING_KEY: "hangs"} for site in SITES},
    faults=None,
    on_failure=lambda site, what: None,
)
workers.next_answer = stop  # as a coordinator that ends while sites work
try:
    list(FlowerLink(grid).ask([request(site) for site in SITES]))
except Stop:
    pass
else:
    raise SystemExit("nothing was at work")
assert any(one.name.startswith("ray_") for one in threading.enumerate())
workers.close()
assert not any(one.name.startswith("ray_") for one in threading.enumerate())
print("closed")
"""


@pytest.fixture
def short_folder() -> Generator[Path]:
    """Ray's sockets lie in it, and their paths may have 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_closed_while_sites_work(short_folder: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", CLOSE],
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(short_folder)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "closed\n"), ended.stderr
    assert list(short_folder.glob("fedvol-ray-*")) == []
