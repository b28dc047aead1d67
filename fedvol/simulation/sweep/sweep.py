"""`sweep`: every variant of a study with every seed, resumable, and what they say together."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedvol.config.loading import read_text
from fedvol.config.sweep import Sweep, load_sweep
from fedvol.errors import SweepFailedError
from fedvol.files import locked_folder, remove_unfinished, write_atomic
from fedvol.report.sweep_page import write_sweep
from fedvol.report.sweep_result import SweepResult
from fedvol.simulation.simulate import choose_device, require_data
from fedvol.simulation.sweep.design import SweepRun, sweep_runs
from fedvol.simulation.sweep.figures import Finished, read_finished, sweep_result
from fedvol.simulation.sweep.folder import SweepFolder, open_sweep_folder
from fedvol.simulation.sweep.processes import Work, carry_out
from fedvol.simulation.sweep.sharing import share_pretraining
from fedvol.telemetry import Observer


def sweep(
    study_path: Path,
    sweep_path: Path,
    *,
    data: Path,
    out: Path,
    resume: bool,
    jobs: int,
    device: str,
    observer: Observer,
) -> SweepResult:
    """Run what is not finished, and after each run write what all of them say.

    A run that fails does not end the others. With `resume` a sweep goes on, and may have more
    variants and seeds than before.

    Args:
        study_path: The study file.
        sweep_path: The sweep file.
        data: Folder of volumes.
        out: New or empty folder for everything the sweep leaves.
        resume: Whether to go on where an earlier call stopped.
        jobs: Runs side by side.
        device: `auto`, `cpu` or `cuda`.
        observer: Hears of progress.

    Raises:
        ConfigFileError: A file is absent or not TOML.
        StudyError: A variant is no valid study.
        SweepError: The sweep is wrong, or compares what cannot be compared.
        DataError: The data do not do for a variant: a table, a split, or a site it names.
        QuorumError: Fewer sites have training cases than a variant's minimum.
        RunMismatchError: The folder holds runs of another study.
        SweepFailedError: Runs failed; the others are written.
    """
    settings = load_sweep(sweep_path)
    text = read_text(study_path)
    runs = sweep_runs(settings, text, where=study_path)
    choose_device(device)
    for run in runs[: len(runs) // len(settings.seeds)]:  # seeds ask for no other data
        require_data(data, study=run.study)
    folder = open_sweep_folder(out, resume=resume)
    if settings.share_pretraining:
        runs = share_pretraining(runs, folder=folder, where=study_path)
    with locked_folder(out):
        remove_unfinished(out)
        for run in runs:
            folder.require_same(run)
        for run in runs:
            write_atomic(folder.study_of(run), run.text.encode())
        write_atomic(folder.study, text.encode())
        write_atomic(folder.sweep, read_text(sweep_path).encode())
        return _carry_out(
            settings,
            runs,
            folder=folder,
            data=data,
            jobs=jobs,
            device=device,
            observer=observer,
        )


def _carry_out(
    settings: Sweep,
    runs: Sequence[SweepRun],
    *,
    folder: SweepFolder,
    data: Path,
    jobs: int,
    device: str,
    observer: Observer,
) -> SweepResult:
    finished = {run.name: found for run in runs if (found := read_finished(run, folder.run(run)))}
    failed: dict[str, str] = {}
    works = {
        run.name: Work(
            name=run.name,
            study=folder.study_of(run),
            data=data,
            out=folder.run(run).folder,
            device=device,
            after=run.pretrained_by,
        )
        for run in runs
        if run.name not in finished
    }
    observer.event("sweep.started", runs=len(runs), waiting=len(works))
    by_name = {run.name: run for run in runs}
    result = _written(settings, runs, folder=folder, finished=finished, failed=failed)
    ends = carry_out([*works.values()], jobs=jobs, observer=observer)
    for number, ended in enumerate(ends, start=1):
        run = by_name[ended.work.name]
        found = None if ended.reason else read_finished(run, folder.run(run))
        if found is not None:
            finished[run.name] = found
        else:
            failed[run.name] = ended.reason
        result = _written(settings, runs, folder=folder, finished=finished, failed=failed)
        observer.event(
            "sweep.run",
            run=run.name,
            done=number,
            total=len(works),
            seconds=ended.seconds,
            reason=ended.reason,
        )
    if failed:
        name, reason = next(iter(failed.items()))
        raise SweepFailedError(
            str(folder.folder),
            f"{len(failed)} of {len(runs)} runs failed; {name}: {reason.rstrip('.')}",
            "Mend it, and add --resume.",
        )
    return result


def _written(
    settings: Sweep,
    runs: Sequence[SweepRun],
    *,
    folder: SweepFolder,
    finished: Mapping[str, Finished],
    failed: Mapping[str, str],
) -> SweepResult:
    """Write what is known so far."""
    result = sweep_result(
        settings,
        runs,
        finished=finished,
        failed=failed,
        folder_of=lambda run: str(folder.run(run).folder.relative_to(folder.folder)),
    )
    write_sweep(folder.folder, result=result)
    return result
