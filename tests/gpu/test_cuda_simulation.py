"""A whole federation on GPUs goes from volumes to a report, in one process and in several."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import Events, make_hospitals, tiny_text
from worker_sites import SITES, open_on_gpu, request

from fedvol.errors import CompileError
from fedvol.federation import Action
from fedvol.report import Result
from fedvol.simulation import simulate
from fedvol.telemetry import Observer
from fedvol.training import require_compiler
from fedvol.transport import FlowerLink, ProcessPool, WorkerGrid

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def run(
    folder: Path, data: Path, *, settings: str = "", workers: int = 1, observer: Observer
) -> Result:
    folder.mkdir()
    study = folder / "study.toml"
    threads = f"num_threads = 1\n{settings}"
    study.write_text(tiny_text(num_threads=threads), encoding="utf-8")
    return simulate(
        study,
        data=data,
        out=folder / "out",
        baselines=("pooled",),
        resume=False,
        device="cuda",
        observer=observer,
        workers=workers,
    )


@pytest.mark.parametrize(
    "settings",
    [
        'precision = "float32"',
        'precision = "bfloat16"',
        "channels_last = false",
        'precision = "bfloat16"\ncompile = true',
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
def test_tiny_federation_finishes(tmp_path: Path, settings: str) -> None:
    if "compile" in settings:
        try:
            require_compiler(torch.device("cuda"))
        except CompileError as error:
            pytest.skip(str(error))
    data = make_hospitals(tmp_path / "data", num_sites=2)
    result = run(tmp_path / "run", data, settings=settings, observer=Events())
    assert set(result.evaluation) == {"federated", "pooled"}
    value = result.evaluation["federated"].overall["dice"].value
    assert value is not None
    assert math.isfinite(value)
    assert (tmp_path / "run" / "out" / "report.html").is_file()


@pytest.mark.parametrize("num_gpus", [1, pytest.param(2, id="two")])
def test_workers_take_the_gpus_in_turn(num_gpus: int) -> None:
    """Also where there are fewer GPUs than workers."""
    if torch.cuda.device_count() < num_gpus:
        pytest.skip(f"{num_gpus} GPUs are needed, and {torch.cuda.device_count()} are here")
    events = Events()
    pool = ProcessPool(partial(open_on_gpu, num_gpus=num_gpus), num_workers=3, observer=events)
    try:
        grid = WorkerGrid(pool, sites=SITES, on_failure=lambda site, what: None)
        link = FlowerLink(grid)
        replies = list(link.ask([request(site, Action.HEALTH) for site in SITES]))
    finally:
        pool.close()
    assert not [reply.code for reply in replies if reply.code]
    found = {event["worker"]: event["gpu"] for event in events.named("opened")}
    assert found == {worker: worker % num_gpus for worker in range(3)}


def test_two_workers_train_as_one_does(tmp_path: Path) -> None:
    """Every site's first loss of a run follows from initial weights and data alone."""
    data = make_hospitals(tmp_path / "data", num_sites=2)
    first: list[dict[object, object]] = []
    for workers in (1, 2):
        events = Events()
        run(tmp_path / f"run-{workers}", data, workers=workers, observer=events)
        losses = {
            event["site"]: event["loss"]
            for event in events.named("site.training")
            if event["round"] == event["step"] == 1
        }
        first.append(losses)
    # A GPU chooses its convolutions anew in each process, of TF32 at the worst: 2^-11 for each
    # rounding, and the mean of many thousand voxels' losses is no worse than one of them.
    assert set(first[0]) >= {"hospital_1", "hospital_2"}
    assert first[1] == pytest.approx(first[0], rel=2.0**-11)
