"""Sixty-four sites on one small machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_sixty_four_sites_need_little_memory() -> None:
    """No time is asserted; the benchmark prints it."""
    command = [sys.executable, "-m", "benchmarks", "--only", "site_round_s"]
    ended = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE)
    detail = json.loads(ended.stdout)["detail"]
    assert detail["sites"] == 64
    for key in ("peak_mib", "two_workers_peak_mib"):
        assert 100 < detail[key] < 4096, key
