"""`simulate`: a whole study on one machine, from volumes to a report."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from fedvol.client.prepare import listed_training
from fedvol.config import OpenStudy, close_study, load_open_study
from fedvol.config.model_names import require_baselines
from fedvol.config.pretext import needed_cases
from fedvol.errors import DeviceError, FedvolError, QuorumError, StoreError
from fedvol.files import locked_folder, remove_unfinished
from fedvol.models import initial_network
from fedvol.report import Result
from fedvol.simulation.engines import EngineName
from fedvol.simulation.federate import take_over
from fedvol.simulation.judged import Judged, train_and_judge
from fedvol.simulation.output import Output, keep_study, keep_weights, open_output
from fedvol.simulation.publish import publish, publish_failure
from fedvol.simulation.session import Session, open_session
from fedvol.simulation.told_once import ToldOnce
from fedvol.store import find_weights
from fedvol.telemetry import Broadcast, JsonLines, Observer
from fedvol.training import require_compiler


def simulate(
    study_path: Path,
    *,
    data: Path,
    out: Path,
    baselines: tuple[str, ...],
    resume: bool,
    device: str,
    observer: Observer,
    engine: EngineName = "in-process",
    workers: int | None = 1,
) -> Result:
    """Run a study over the hospitals in a folder, judge it, and write result and report.

    A run that fails leaves both too, with the reason and the models judged before it failed.

    Args:
        study_path: The study file.
        data: Folder of volumes with their case table, or of one such folder per site.
        out: New or empty folder for everything the run leaves.
        baselines: Which of `local`, `ensemble`, `pooled` are trained and judged beside it.
        resume: Whether to go on where an earlier call stopped.
        device: `auto`, `cpu` or `cuda`.
        observer: Hears of progress.
        engine: Where sites work; it changes no figure.
        workers: Sites that work at one time; None: as suits the machine.

    Raises:
        FedvolError: By its class: configuration, data, privacy, federation, store.
    """
    baselines = require_baselines(baselines)
    study, weights = find_weights(
        load_open_study(study_path),
        folder=study_path.parent,
        kept=Output(folder=out).weights if resume else None,
    )
    torch_device = choose_device(device)
    if any(stage.training.compile for stage in study.stages):
        require_compiler(torch_device)  # before hours of preparing, and before there is a folder
    if weights is not None and not study.open_keys:
        closed = close_study(study, {}, where=study.name)
        take_over(initial_network(closed), closed, weights)
    output = open_output(out, resume=resume)
    require_data(data, study=study)  # before anything lies in the folder
    with locked_folder(out):
        keep_study(output, path=study_path, study=study)
        remove_unfinished(out)
        keep_weights(output, weights)
        with JsonLines(output.events) as events:
            session = open_session(
                study,
                data=data,
                output=output,
                device=torch_device,
                observer=ToldOnce(Broadcast([observer, events])),
                weights=weights,
                engine=engine,
                workers=workers,
            )
            judged: list[Judged] = []
            try:
                with closing(session.engine):
                    for model in train_and_judge(session, baselines=baselines):
                        judged.append(model)  # noqa: PERF402  # what is there when a later one fails
            except StoreError:
                raise  # interrupted, not failed: what it left goes on with --resume
            except FedvolError as error:
                _tell_of(session, error, judged=judged)
                raise
            return publish(session, judged)


def _tell_of(session: Session, error: FedvolError, *, judged: Sequence[Judged]) -> None:
    """Leave a report of a failure; where that cannot be, the failure itself says more."""
    try:
        publish_failure(session, error, judged=judged)
    except StoreError as second:
        error.add_note(f"No report of it could be written: {second}")


def require_data(data: Path, *, study: OpenStudy) -> None:
    """Refuse a folder that no study could run on, or this one could not for want of sites.

    Raises:
        DataError: The folder, a table or a split is wrong, or a subject is in two places.
        QuorumError: Fewer sites have training cases than the study's minimum, or enough of them for
            its pretext task.
    """
    listed = listed_training(data, requirement=study.data)
    sites = [site for site, cases in listed.items() if cases.labelled]
    minimum = study.federation.min_sites
    if len(sites) < minimum:
        raise QuorumError(
            str(data),
            f"{len(sites)} {'site has' if len(sites) == 1 else 'sites have'} training cases"
            + (f" ({', '.join(sites)})" if sites else "")
            + f", federation.min_sites is {minimum}",
            "Add sites, or lower federation.min_sites in the study.",
        )
    if study.pretrain is None:
        return
    task = study.pretrain.task
    fewest = 2 if task.needs_pairs else 1
    able = [site for site, cases in listed.items() if cases.total >= fewest]
    if len(able) < minimum:
        raise QuorumError(
            str(data),
            f"{len(able)} of at least {minimum} sites could pretrain by {task.kind}, which needs "
            f"{needed_cases(task)} (too few at {', '.join(sorted(listed.keys() - set(able)))})",
            "Add cases, choose another pretext task, or lower federation.min_sites in the study.",
        )


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` takes a GPU where there is one.

    Raises:
        DeviceError: A GPU was asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise DeviceError("--device", "no CUDA device is visible", "Use --device cpu or auto.")
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")
