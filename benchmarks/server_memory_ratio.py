"""The server's peak memory, which must not grow with the number of sites.

Each sum runs in a process of its own: `python -m benchmarks.server_memory_ratio SIZE FOLDER
BASE CONTRIBUTION ...` sums the blobs of those digests, and prints what it took.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measurement import REPOSITORY, Measurement, Size
from fedvol.config.strategy import FedAvg
from fedvol.federation import Exchange, build_strategy, next_global
from fedvol.plan import TensorKind, TensorSpec
from fedvol.store import BlobStore
from fedvol.types import Digest

_FEW, _MANY = 4, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """`distinct`: blobs that are written; the sum opens them in turn, each time anew."""

    features: tuple[int, ...]
    distinct: int


_CASES: dict[Size, _Case] = {
    "tiny": _Case(features=(4, 8), distinct=2),
    "default": _Case(features=(24, 48, 96, 160), distinct=8),
    "large": _Case(features=(32, 64, 128, 256, 320, 320), distinct=8),
}


def measure(size: Size) -> Measurement:
    """Peak of summing 64 contributions over the peak of summing 4."""
    case, specs = _CASES[size], _specs(size)
    generator = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder:
        blobs = BlobStore(Path(folder))
        base, *contributions = [
            blobs.put(_state(specs, generator=generator), metadata={"blob": str(number)})
            for number in range(1 + case.distinct)
        ]
        few, many = (
            _in_child(
                size,
                folder=folder,
                base=base,
                contributions=[contributions[n % case.distinct] for n in range(count)],
            )
            for count in (_FEW, _MANY)
        )
    return Measurement(
        name="server_memory_ratio",
        value=many["peak_mib"] / few["peak_mib"],
        unit="ratio",
        baseline=f"the same sum over {_FEW} contributions",
        detail={
            "contributions": _MANY,
            "distinct_blobs": case.distinct,
            "parameters": sum(spec.size for spec in specs),
            "peak_mib": many["peak_mib"],
            "baseline_peak_mib": few["peak_mib"],
            "rise_mib": many["peak_mib"] - many["before_mib"],
            "baseline_rise_mib": few["peak_mib"] - few["before_mib"],
            "all_in_memory_mib": _MANY * sum(spec.size for spec in specs) * 4 / 2**20,
            "seconds": many["seconds"],
        },
    )


def _specs(size: Size) -> tuple[TensorSpec, ...]:
    """Shapes as in a U-Net: two convolutions a stage on the way down, two on the way up."""
    features = _CASES[size].features
    shapes: dict[str, tuple[int, ...]] = {}
    for level, width in enumerate(features):
        before = features[level - 1] if level else 1
        shapes[f"encoder.{level}.0.weight"] = (width, before, 3, 3, 3)
        shapes[f"encoder.{level}.1.weight"] = (width, width, 3, 3, 3)
        if level < len(features) - 1:
            shapes[f"decoder.{level}.0.weight"] = (width, 2 * width, 3, 3, 3)
            shapes[f"decoder.{level}.1.weight"] = (width, width, 3, 3, 3)
    return tuple(
        TensorSpec(name=name, shape=shape, dtype="float32", kind=TensorKind.ENCODER)
        for name, shape in shapes.items()
    )


def _state(
    specs: Sequence[TensorSpec], *, generator: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for spec in specs:
        yield spec.name, generator.standard_normal(spec.shape, dtype=np.float32)


def _in_child(
    size: Size, *, folder: str, base: Digest, contributions: Sequence[Digest]
) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.server_memory_ratio", size, folder, base]
    done = subprocess.run(
        [*command, *contributions], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)


def _sum(size: Size, folder: str, base: Digest, *contributions: Digest) -> None:
    """What the server does at the end of a round, in this process."""
    before_mib, began = _memory_mib("VmRSS"), time.monotonic()
    blobs = BlobStore(Path(folder))
    blobs.put(_new_global(blobs, _specs(size), base, contributions), metadata={"round": "1"})
    told = {
        "before_mib": before_mib,
        "peak_mib": _memory_mib("VmHWM"),
        "seconds": time.monotonic() - began,
    }
    print(json.dumps(told))


def _new_global(
    blobs: BlobStore, specs: Sequence[TensorSpec], base: Digest, contributions: Sequence[Digest]
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """As in `server.summing`."""
    with ExitStack() as stack:
        present = stack.enter_context(blobs.open(base))
        updates = [
            (float(number), stack.enter_context(blobs.open(digest)))
            for number, digest in enumerate(contributions, start=1)
        ]
        yield from next_global(
            present,
            updates,
            exchange=Exchange(shared=tuple(specs), local=()),
            optimiser=build_strategy(FedAvg(kind="fedavg")).optimiser,
        )


def _memory_mib(field: str) -> float:
    """A memory field of this process. Linux's own count: `ru_maxrss` would include the parent."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


if __name__ == "__main__":
    _sum(*sys.argv[1:])  # pyright: ignore[reportArgumentType]  # words of `_in_child`
