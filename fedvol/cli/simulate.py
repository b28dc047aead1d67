"""`fedvol simulate`, `demo` and `report`: a whole federation on one machine."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import sys
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from fedvol.cli.output import AsJson, emit, say
from fedvol.cli.sweep import require_sweep_options, run_sweep
from fedvol.types import Json

DEMO_SITES, DEMO_CASES, DEMO_SEED = 3, 20, 0


class Device(StrEnum):
    """Where networks run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Engine(StrEnum):
    """Where sites work."""

    IN_PROCESS = "in-process"
    RAY = "ray"


DeviceOption = Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on where an earlier call stopped.")
]


def simulate(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.")],
    data: Annotated[Path, typer.Option(help="Folder of volumes with their case table.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for everything the run leaves.")],
    baselines: Annotated[
        str,
        typer.Option(help="Models to train and judge beside it: local,ensemble,pooled."),
    ] = "",
    resume: ResumeOption = False,
    device: DeviceOption = Device.AUTO,
    engine: Annotated[
        Engine, typer.Option(help="Where sites work: on this machine, or on Ray.")
    ] = Engine.IN_PROCESS,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Sites at work at one time, else as suits the machine; of a sweep, runs, else 1.",
        ),
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(help="File of variants: each is run with each seed, and all are compared."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a study over hospitals on this machine.

    STUDY is the study file. Model, figures and report go to the folder of --out.
    With --sweep it holds a run for each variant and seed, and a page that
    compares them.
    """
    if sweep is not None:
        require_sweep_options(baselines=baselines, engine=engine.value)
        said = run_sweep(
            study,
            sweep,
            data=data,
            out=out,
            resume=resume,
            jobs=workers or 1,
            device=device.value,
        )
        if as_json:
            emit(said)
        return
    from fedvol.config import load_open_study
    from fedvol.config.model_names import require_baselines

    load_open_study(study)  # a broken study is told before the heavy libraries load
    chosen = require_baselines(name.strip() for name in baselines.split(",") if name.strip())
    summary = _simulate(
        study,
        data=data,
        out=out,
        baselines=chosen,
        resume=resume,
        device=device,
        engine=engine,
        workers=workers,
    )
    if as_json:
        emit(summary)


def demo(
    out: Annotated[Path, typer.Option(help="New or empty folder for the demo.")] = Path("demo-out"),
    resume: ResumeOption = False,
    device: DeviceOption = Device.AUTO,
    as_json: AsJson = False,
) -> None:
    """Run a small federation on generated hospitals.

    It takes a few minutes on two cores and needs no data.
    """
    from fedvol.cli.folders import new_folder, require_demo_folder
    from fedvol.config.model_names import POOLED
    from fedvol.data.phantom import default_hospitals, generate_hospitals
    from fedvol.files import write_atomic

    packaged = resources.files("fedvol.cli").joinpath("demo.toml").read_bytes()
    require_demo_folder(out, study=packaged, resume=resume)
    data, study = out / "hospitals", out / "study.toml"
    write_atomic(study, packaged)
    if not data.is_dir():  # it takes its name once it is whole
        say(f"Making {DEMO_SITES} hospitals in {data} ...")
        with new_folder(data) as working:
            hospitals = default_hospitals(DEMO_SITES, DEMO_CASES)
            generate_hospitals(working, hospitals=hospitals, seed=DEMO_SEED)
    summary = _simulate(
        study,
        data=data,
        out=out / "run",
        baselines=(POOLED,),
        resume=resume,
        device=device,
    )
    if as_json:
        emit(summary)


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder a simulation left.")],
    as_json: AsJson = False,
) -> None:
    """Write the report of a finished run again.

    OUT is the folder that a simulation left; report.html is made from its result.json, and
    sweep.html of a sweep from its sweep.json.
    """
    from fedvol.report.sweep_page import SWEEP_FILE, rebuild_sweep
    from fedvol.simulation import rebuild_report

    page = rebuild_sweep(out) if (out / SWEEP_FILE).is_file() else rebuild_report(out)
    say(f"Report: {page}")
    if as_json:
        emit({"report": str(page)})


def _simulate(
    study: Path,
    *,
    data: Path,
    out: Path,
    baselines: tuple[str, ...],
    resume: bool,
    device: Device,
    engine: Engine = Engine.IN_PROCESS,
    workers: int | None = None,
) -> dict[str, Json]:
    from fedvol.cli.progress import watching
    from fedvol.cli.summary import as_table, skipped_line, summarise
    from fedvol.simulation import simulate as run
    from fedvol.telemetry import set_up_logging

    set_up_logging(sys.stderr)
    with watching(sys.stderr) as observer:
        result = run(
            study,
            data=data,
            out=out,
            baselines=baselines,
            resume=resume,
            device=device.value,
            observer=observer,
            engine=engine.value,
            workers=workers,
        )
    say(as_table(result))
    if skipped := skipped_line(result):
        say(skipped)
    say(f"Report: {out / 'report.html'}")
    return summarise(result, out=out)
