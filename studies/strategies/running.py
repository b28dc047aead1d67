"""Runs that are not finished yet, several side by side, each a `fedvol simulate` of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from studies.strategies.budget import Budget
from studies.strategies.contenders import Contender
from studies.strategies.settings import Setting
from studies.strategies.study_file import study_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One strategy, on one setting, with one seed.

    Attributes:
        root: Folder of the whole study.
        setting: The data.
        contender: What is compared.
        seed: Of data, weights and draws.
    """

    root: Path
    setting: Setting
    contender: Contender
    seed: int

    @property
    def name(self) -> str:
        """Names its files."""
        return f"{self.setting.name}-{self.contender.name}-{self.seed}"

    @property
    def out(self) -> Path:
        """What `fedvol simulate` leaves."""
        return self.root / "runs" / self.name

    @property
    def study(self) -> Path:
        """Its study file."""
        return self.root / "studies" / f"{self.name}.toml"

    @property
    def log(self) -> Path:
        """What the command told."""
        return self.root / "logs" / f"{self.name}.txt"

    @property
    def generated(self) -> Path:
        """Folder of its generated hospitals."""
        return self.root / "data" / f"{self.setting.name}-{self.seed}"

    @property
    def is_finished(self) -> bool:
        """Whether its figures are there."""
        path = self.out / "result.json"
        return path.is_file() and json.loads(path.read_text())["status"] == "finished"

    def is_of_design(self, *, budget: Budget) -> bool:
        """Whether its figures, if there are any, are those of the study it would write now.

        Where a pilot has yet to choose, the study of any candidate is of the design.
        """
        if not self.is_finished:
            return True
        contender = self.contender
        designed = [
            study_text(
                self.setting,
                replace(contender, strategy=lines, candidates=()),
                seed=self.seed,
                budget=budget,
            )
            for _, lines in contender.candidates or (("", contender.strategy),)
        ]
        return self.study.is_file() and self.study.read_text() in designed

    def write_study(self, *, budget: Budget) -> None:
        """Write the study file; one that is there must be the same.

        Raises:
            FileExistsError: It was begun with another design.
        """
        text = study_text(self.setting, self.contender, seed=self.seed, budget=budget)
        if self.study.exists():
            if self.study.read_text() != text:
                raise FileExistsError(f"{self.study}: another design was begun here; use new --out")
            return
        self.study.parent.mkdir(parents=True, exist_ok=True)
        self.study.write_text(text)


def all_runs(
    root: Path,
    *,
    settings: Sequence[Setting],
    contenders: Sequence[Contender],
    seeds: Sequence[int],
) -> tuple[Run, ...]:
    """Every run, seed by seed, so that an interrupted study has whole tables of fewer seeds."""
    return tuple(
        Run(root=root, setting=setting, contender=contender, seed=seed)
        for seed in seeds
        for setting in settings
        for contender in contenders
        if not contender.settings or setting.name in contender.settings
    )


def prepare(runs: Sequence[Run], *, budget: Budget) -> None:
    """Write the studies and generate the hospitals.

    Raises:
        FileExistsError: The folder holds another design.
    """
    for run in runs:
        run.write_study(budget=budget)
        if run.setting.shift is not None:
            run.generated.parent.mkdir(parents=True, exist_ok=True)
            run.setting.make(run.generated, seed=run.seed, budget=budget)


def run_unfinished(
    runs: Sequence[Run], *, hippocampus: Path | None, jobs: int, tell: Callable[[str], None]
) -> list[Run]:
    """Run what is not finished; what was interrupted goes on where it stopped.

    Args:
        runs: All of them.
        hippocampus: Where those volumes are.
        jobs: Runs side by side.
        tell: Takes a line for each that ends.

    Returns:
        Those that failed; their logs say why.
    """
    waiting = [run for run in runs if not run.is_finished]
    tell(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished")
    failed: list[Run] = []
    for number, (run, status, seconds) in enumerate(
        _carry_out(waiting, hippocampus=hippocampus, jobs=jobs), start=1
    ):
        how = f"{seconds:.0f} s" if status == 0 else f"failed: {run.log}"
        tell(f"{number}/{len(waiting)} {run.name}: {how}")
        if status != 0:
            failed.append(run)
    return failed


def _carry_out(
    runs: Sequence[Run], *, hippocampus: Path | None, jobs: int
) -> Iterator[tuple[Run, int, float]]:
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = {pool.submit(_simulate, run, hippocampus): run for run in runs}
        try:
            for future in as_completed(futures):
                yield futures[future], *future.result()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise


def _simulate(run: Run, hippocampus: Path | None) -> tuple[int, float]:
    data = run.generated if run.setting.shift is not None else hippocampus
    assert data is not None
    words = ["simulate", run.study, "--data", data, "--out", run.out, "--device", "cpu"]
    if run.contender.baselines:
        words += ["--baselines", run.contender.baselines]
    if run.out.exists():
        words += ["--resume"]
    run.log.parent.mkdir(parents=True, exist_ok=True)
    run.out.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with run.log.open("a") as log:
        ended = subprocess.run(
            [sys.executable, "-m", "fedvol", *map(str, words)],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return ended.returncode, time.monotonic() - began
