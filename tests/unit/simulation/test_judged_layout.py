"""A released file is judged in the memory layout of its training, as sites judge theirs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import CPU, tiny_study

from fedvol.models import initial_network, to_arrays
from fedvol.simulation.judged import _network
from fedvol.store import BlobStore
from fedvol.types import RunId


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_released_network_has_the_layout_of_its_stage(
    tmp_path: Path, channels_last: bool
) -> None:
    line = f"num_threads = 1\nchannels_last = {str(channels_last).lower()}"
    study = tiny_study(num_threads=line)
    blobs = BlobStore(tmp_path)
    release = blobs.put(to_arrays(initial_network(study)).items(), metadata={})
    session: Any = SimpleNamespace(study=study, device=CPU, blobs=lambda run: blobs)
    net = _network(session, RunId("pooled"), release)
    kernels = [p for p in net.parameters() if p.dim() == 5 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels
    for kernel in kernels:
        assert kernel.is_contiguous(memory_format=torch.channels_last_3d) is channels_last
