"""What a site's round costs where one machine simulates many sites, in seconds and memory.

The simulation runs in processes of its own: `python -m benchmarks.site_round_s SIZE WORKERS FOLDER`
prepares the generated hospitals in FOLDER/data, conducts the rounds, and prints what they took.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.measurement import REPOSITORY, Measurement, Size
from benchmarks.phantom_study import phantom_study
from fedvol.config import Study
from fedvol.data.batch import Batch
from fedvol.data.phantom import NUM_FOLDS, default_hospitals, generate_hospitals
from fedvol.federation import RoundState
from fedvol.models import initial_network
from fedvol.simulation.output import open_output
from fedvol.simulation.session import FEDERATED, open_session
from fedvol.tasks import build_objective
from fedvol.telemetry import Broadcast
from fedvol.training import threads

_NUM_CLASSES = 4
_CPU = torch.device("cpu")
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    sites: int
    steps: int
    features: tuple[int, ...]


_CASES: dict[Size, _Case] = {
    "tiny": _Case(sites=3, steps=1, features=(4, 8)),
    "default": _Case(sites=64, steps=10, features=(8, 16, 32)),
    "large": _Case(sites=64, steps=20, features=(16, 32, 64, 128)),
}


def measure(size: Size) -> Measurement:
    """Seconds of a round over its sites, which take turns in one process; two side by side too."""
    case = _CASES[size]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A grid of 4 mm: small volumes, so that what a site costs by itself is not hidden.
        hospitals = tuple(
            replace(
                hospital,
                num_cases=NUM_FOLDS,
                num_subjects=NUM_FOLDS,
                spacing_mm=(4.0, 4.0, 4.0),
                shape=(28, 23, 23),
            )
            for hospital in default_hospitals(case.sites, NUM_FOLDS)
        )
        generate_hospitals(folder / "data", hospitals=hospitals, seed=7)
        one, two = (_in_child(size, workers=workers, folder=folder) for workers in (1, 2))
    bare_s = one["bare_step_s"] * case.steps
    bare_cpu_s = one["bare_step_cpu_s"] * case.steps
    return Measurement(
        name="site_round_s",
        value=one["site_round_s"],
        unit="s",
        baseline="bare PyTorch loop of the same steps on one batch in memory",
        detail={
            "sites": case.sites,
            "steps": case.steps,
            "features": str(case.features),
            "bare_s": bare_s,
            "ratio": one["site_round_s"] / bare_s,
            "cpu_ratio": one["site_round_cpu_s"] / bare_cpu_s,
            "training_share": one["training_share"],
            "prepare_s": one["prepare_s"],
            "whole_s": one["whole_s"],
            "peak_mib": one["peak_mib"],
            "two_workers_site_round_s": two["site_round_s"],
            "two_workers_whole_s": two["whole_s"],
            "two_workers_peak_mib": two["peak_mib"],
        },
    )


def _in_child(size: Size, *, workers: int, folder: Path) -> dict[str, float]:
    """What a simulation tells, and the largest sum of its processes' memory."""
    command = [sys.executable, "-m", "benchmarks.site_round_s", size, str(workers), str(folder)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        watch = _MemoryWatch(child.pid)
        watch.start()
        try:
            told, _ = child.communicate()
        finally:
            child.kill()  # in a session of its own it hears no Ctrl-C; its workers end with it
            watch.stop()
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return {**json.loads(told), "peak_mib": watch.peak_mib}


class _MemoryWatch(threading.Thread):
    """Adds up the resident memory of a process session now and then; shared pages count often.

    Args:
        session: Its number: the process id of its first process.
    """

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self._session = session
        self._end = threading.Event()
        self.peak_mib = 0.0

    def run(self) -> None:
        """Look until told to stop."""
        while not self._end.wait(_LOOK_S):
            self.peak_mib = max(self.peak_mib, self._now_mib())

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self.join()

    def _now_mib(self) -> float:
        pages = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2]
            except OSError:
                continue  # it has ended meanwhile
            _, _, _, session, *_ = values = fields.split()
            if int(session) == self._session:
                pages += int(values[21])  # rss: field 24 of the line, 22nd after the name
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- in the child ---------------------------------------------------------------------------


def _simulate(size: Size, workers: int, folder: Path) -> dict[str, float]:
    """Prepare and conduct, as `fedvol simulate` does."""
    case = _CASES[size]
    began = time.monotonic()
    session = open_session(
        phantom_study(case.features, rounds=2, steps=case.steps, num_threads=1),
        data=folder / "data",
        output=open_output(folder / f"out-{workers}", resume=False),
        device=_CPU,
        observer=Broadcast(()),
        workers=workers,
    )
    prepared, prepared_cpu = time.monotonic(), time.process_time()
    with closing(session.engine):
        session.federated()
    conducted_cpu_s = time.process_time() - prepared_cpu
    whole_s = time.monotonic() - began
    rounds = [r for r in session.store.rounds(FEDERATED) if r.state is RoundState.CLOSED]
    rounds_s = sum(record.seconds for record in rounds)
    training_s = sum(site.train_seconds or 0.0 for record in rounds for site in record.sites)
    site_rounds = case.sites * len(rounds)
    step_s, step_cpu_s = _bare(session.study, steps=10 * case.steps)
    return {
        "prepare_s": prepared - began,
        "whole_s": whole_s,
        "site_round_s": rounds_s / site_rounds,
        "site_round_cpu_s": conducted_cpu_s / site_rounds,
        "training_share": training_s / rounds_s,
        "bare_step_s": step_s,
        "bare_step_cpu_s": step_cpu_s,
    }


def _bare(study: Study, *, steps: int) -> tuple[float, float]:
    """Seconds, and seconds of computing, of a step without a federation around it."""
    generator = torch.Generator().manual_seed(7)
    sides = (study.patches.batch_size, *study.patches.size)
    image = torch.randn(sides, generator=generator)[:, None]
    batch = Batch(
        image=image.contiguous(memory_format=torch.channels_last_3d),
        label=torch.randint(0, _NUM_CLASSES, sides, generator=generator),
    )
    objective = build_objective(study.task, num_classes=_NUM_CLASSES)
    net = initial_network(study)
    net.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]  # stub gap
    net.train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    clip_norm = study.finetune.training.clip_grad_norm

    def step() -> None:
        optimiser.zero_grad()
        objective.loss(net, batch).backward()
        nn.utils.clip_grad_norm_(net.parameters(), clip_norm)
        optimiser.step()

    with threads(1):
        step()
        began, began_cpu = time.monotonic(), time.process_time()
        for _ in range(steps):
            step()
        return (
            (time.monotonic() - began) / steps,
            (time.process_time() - began_cpu) / steps,
        )


if __name__ == "__main__":
    print(json.dumps(_simulate(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))  # pyright: ignore[reportArgumentType]  # a word of `_in_child`
