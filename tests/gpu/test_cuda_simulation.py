"""A whole federation on a GPU goes from volumes to a report."""

import math
from pathlib import Path

import pytest
import torch
from tiny import make_hospitals, tiny_text

from fedvol.simulation import simulate
from fedvol.telemetry import Broadcast

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tiny_federation_finishes(tmp_path: Path, precision: str) -> None:
    study = tmp_path / "study.toml"
    threads = f'num_threads = 1\nprecision = "{precision}"'
    study.write_text(tiny_text(num_threads=threads), encoding="utf-8")
    result = simulate(
        study,
        data=make_hospitals(tmp_path / "data", num_sites=2),
        out=tmp_path / "out",
        baselines=("pooled",),
        resume=False,
        device="cuda",
        observer=Broadcast(()),
    )
    assert set(result.evaluation) == {"federated", "pooled"}
    value = result.evaluation["federated"].overall["dice"].value
    assert value is not None
    assert math.isfinite(value)
    assert (tmp_path / "out" / "report.html").is_file()
