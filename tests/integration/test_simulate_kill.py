"""`fedvol simulate` as a real process, ended at random moments and resumed to the same end."""

import json
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import FinishedRun
from tiny import events, fedvol_command, figures, half_written, personalise, tiny_text

from fedvol.audit import verify_log
from fedvol.federation import RoundState, RunState, SiteState
from fedvol.files import digest_file
from fedvol.store import RunStore, open_engine

NUM_CASES = 18
RUNS = {"federated", "pooled", *(f"local-hospital_{number}" for number in (1, 2, 3))}
STAGE_OF = {"site.contributed": 0, "site.personalised": 1}
Round = tuple[str, int, int]
"""Run, stage, index."""


@dataclass
class Held:
    """What the records hold: finished runs, closed rounds with their weights, sites that worked."""

    finished: set[str] = field(default_factory=set)
    closed: dict[Round, str | None] = field(default_factory=dict)
    worked: set[tuple[Round, str]] = field(default_factory=set)


def read_records(out: Path) -> Held:
    """Read a copy, so that recovering the database stays the resumed process's work."""
    held = Held()
    if not (out / "run.db").exists():
        return held
    with tempfile.TemporaryDirectory() as name:
        for path in out.glob("run.db*"):
            shutil.copy(path, name)
        engine = open_engine(Path(name) / "run.db")
        store = RunStore(engine)
        for run in store.runs():
            if run.state is RunState.FINISHED:
                held.finished.add(run.id)
            for record in store.rounds(run.id):
                key = (str(run.id), record.stage, record.index)
                if record.state is RoundState.CLOSED:
                    assert key not in held.closed, "a round was closed twice"
                    held.closed[key] = record.aggregate
                held.worked |= {
                    (key, site.site)
                    for site in record.sites
                    if site.state in (SiteState.CONTRIBUTED, SiteState.PERSONALISED)
                }
        engine.dispose()
    return held


class Victim:
    """A simulation that is killed and resumed, and the rules it must keep meanwhile."""

    def __init__(self, tiny_run, out: Path) -> None:
        self.out = out
        self.words = [
            "simulate", tiny_run.study, "--data", tiny_run.data, "--out", out,
            "--device", "cpu", *(["--baselines", tiny_run.baselines] if tiny_run.baselines else []),
        ]  # fmt: skip
        self.lives = 0
        self.told = ""

    def live(self, *, until: Callable[[int], bool], how: signal.Signals = signal.SIGKILL) -> int:
        """Start, or start again; end the process when `until` says so; check what it did.

        Args:
            until: Asked with the events of this life so far.
            how: The signal that ends it.

        Returns:
            The process's status.
        """
        before, held = self._num_events(), read_records(self.out)
        again = ["--resume"] if any(self.out.glob("*")) else []
        self.lives += 1
        with subprocess.Popen(
            fedvol_command(*self.words, *again), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            try:
                while process.poll() is None and not until(self._num_events() - before):
                    wait(process, seconds=0.005)
                if process.poll() is None:
                    process.send_signal(how)
                self.told = process.communicate()[1].decode()
            finally:
                process.kill()
        self._check_life(before, held)
        return process.returncode

    def _num_events(self) -> int:
        path = self.out / "events.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _check_life(self, before: int, held: Held) -> None:
        """What was finished was not done again, and is what it was."""
        path, run = self.out / "events.jsonl", ""
        lines = path.read_bytes().split(b"\n")[before:-1] if path.exists() else []
        for event in map(json.loads, lines):
            run = event["name"] if event["event"] == "run.started" else run
            if event["event"] in STAGE_OF or event["event"] in ("round.opened", "round.closed"):
                stage = event["stage"] if "stage" in event else STAGE_OF[event["event"]]
                key = (run, stage, event["round"])
                assert key not in held.closed, f"again: {event}"
                assert (key, event.get("site")) not in held.worked, f"again: {event}"
        now = read_records(self.out)
        assert held.finished <= now.finished
        assert held.closed.items() <= now.closed.items()


def wait(process: "subprocess.Popen[bytes]", *, seconds: float) -> None:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


def never(num_events: int) -> bool:
    return False


def require_same_end(out: Path, tiny_run, *, runs: set[str] = RUNS) -> None:
    """Bit for bit the weights, figure for figure the result, and one story without gaps."""
    names = {path.name for path in (tiny_run.out / "checkpoints").iterdir()}
    assert {path.name for path in (out / "checkpoints").iterdir()} == names
    assert len(names) == len(runs)
    for name in names:
        mine, theirs = out / "checkpoints" / name, tiny_run.out / "checkpoints" / name
        assert digest_file(mine) == digest_file(theirs), name
    assert figures(out / "result.json") == figures(tiny_run.out / "result.json")
    held, expected = read_records(out), read_records(tiny_run.out)
    assert held.finished == expected.finished == runs
    assert held.closed == expected.closed
    assert held.worked == expected.worked
    assert half_written(out) == []
    told = events(out)  # every line is whole
    run, closings = "", []
    for event in told:
        run = event["name"] if event["event"] == "run.started" else run
        if event["event"] == "round.closed":
            closings.append((run, event["stage"], event["round"]))
    assert len(closings) == len(set(closings))
    for log in out.glob("**/audit.jsonl"):
        assert verify_log(log).records
    for database in out.glob("sites/*/catalogue.db"):
        assert database.stat().st_size


def test_killed_while_preparing_training_and_publishing(tiny_run, fedvol, tmp_path: Path) -> None:
    rng = random.Random(20)
    victim = Victim(tiny_run, tmp_path / "out")
    out = victim.out

    cases = rng.randint(1, NUM_CASES - 6)
    assert victim.live(until=lambda told: told >= cases) == -signal.SIGKILL
    assert not (out / "simulation.json").exists()  # it died before a run began

    steps, second = NUM_CASES + rng.randint(8, 40), []

    def meanwhile(told: int) -> bool:
        if told and not second:  # this process wants to work there too
            second.append(fedvol(*victim.words, "--resume"))
        return told >= steps

    assert victim.live(until=meanwhile) == -signal.SIGKILL
    assert second[0].status == 7
    assert "FV-STORE-001" in second[0].err
    assert "federated" not in read_records(out).finished

    steps = NUM_CASES + rng.randint(60, 90)
    assert victim.live(until=lambda told: told >= steps, how=signal.SIGINT) == 130
    assert "--resume" in victim.told

    released = out / "checkpoints" / "federated.safetensors"
    assert victim.live(until=lambda told: released.exists()) == -signal.SIGKILL
    assert not (out / "result.json").exists()

    assert victim.live(until=never) == 0, victim.told
    require_same_end(out, tiny_run)


@pytest.fixture(scope="module")
def personal_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A study with personal models, never interrupted."""
    folder = tmp_path_factory.mktemp("personal")
    ditto = personalise('kind = "ditto", pull = 0.1', rounds=2, steps=3)
    run = FinishedRun(study=folder / "study.toml", data=tiny_data, out=folder / "out", baselines="")
    run.study.write_text(tiny_text(more=ditto, rounds="rounds = 2"))
    words = ["simulate", run.study, "--data", run.data, "--out", run.out, "--device", "cpu"]
    subprocess.run(fedvol_command(*words), check=True, capture_output=True)
    return run


def personal_tensors(out: Path) -> dict[str, str]:
    """Digest of each file of each site's personal models."""
    files = sorted(out.glob("sites/*/state/federated/stage-1/local-*.safetensors"))
    return {str(path.relative_to(out)): digest_file(path) for path in files}


def test_killed_while_models_become_personal(personal_run, tmp_path: Path) -> None:
    victim = Victim(personal_run, tmp_path / "out")
    log = victim.out / "events.jsonl"

    def after(num_sites: int) -> Callable[[int], bool]:
        """Once so many sites trained their own model, in any life."""
        return lambda told: bool(told) and log.read_text().count("site.personalised") >= num_sites

    for num_sites in (1, 4):  # in the first round of the stage, and in the second
        assert victim.live(until=after(num_sites)) == -signal.SIGKILL, victim.told
        held = read_records(victim.out)
        assert "federated" not in held.finished
        assert {stage for (_, stage, _), _ in held.worked} == {0, 1}
        assert not (victim.out / "result.json").exists()
    assert ("federated", 1, 1) in held.closed

    assert victim.live(until=never) == 0, victim.told
    require_same_end(victim.out, personal_run, runs={"federated"})
    assert personal_tensors(victim.out) == personal_tensors(personal_run.out)
    assert len(personal_tensors(victim.out)) == 2 * 3


NUM_KILLS = 20


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2))
def test_killed_twenty_times(seed: int, tiny_run, tmp_path: Path) -> None:
    rng = random.Random(seed)
    victim = Victim(tiny_run, tmp_path / "out")
    kills = 0
    while kills < NUM_KILLS:
        # Each life gets somewhat further than preparing, some die while they start.
        last = rng.randint(0, NUM_CASES + 30) + victim.lives
        status = victim.live(until=lambda told, last=last: told >= last)
        if status == 0:  # done before it could be killed: the rest is for another
            require_same_end(victim.out, tiny_run)
            victim = Victim(tiny_run, tmp_path / f"out-{kills}")
            continue
        assert status == -signal.SIGKILL, victim.told
        kills += 1
    assert victim.live(until=never) == 0, victim.told
    require_same_end(victim.out, tiny_run)
