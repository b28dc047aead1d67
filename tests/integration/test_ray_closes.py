"""Ray's workers are closed in the midst of their work: nothing hangs, crashes or is left.

Ray's first start fails, as on a busy machine, with its processes running already.
"""

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
import gc
import os
import threading
import time
from tiny import Events
from worker_sites import FAILING_KEY, SITES, app_in_actor, request
from fedvol.transport import FlowerLink, RayWorkers, WorkerGrid, share_resources
from fedvol.transport.ray_workers import _require_token

class Stop(Exception): pass

_require_token()  # before Ray is imported
from ray._private.node import Node
failures = []
start = Node.start_ray_processes

def start_late(node):
    start(node)
    if not failures:
        failures.append("The current node timed out during startup.")
        raise Exception(failures[0])

Node.start_ray_processes = start_late

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
assert failures
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("closed")
else:
    raise SystemExit("processes are left")
gc.collect()  # speaks of a process whose end nobody saw
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
        [sys.executable, "-W", "error::ResourceWarning", "-c", CLOSE],
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(short_folder)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "closed\n"), ended.stderr
    assert "still running" not in ended.stderr
    assert list(short_folder.glob("fedvol-ray-*")) == []
