"""A coordinator that is killed at any of its writes ends with the bits of one that never was.

Sites are replayed, so that every point can be tried; `tests/integration` kills real processes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import RUN, Federation, Recorded, Replay

from fedvol.federation import Action, RoundState, RunState, SiteState
from fedvol.store import RunStore, open_engine

STORE_WRITES = (
    "create_run",
    "set_run_state",
    "open_round",
    "set_round_state",
    "put_site_round",
    "put_metrics",
    "add_checkpoint",
    "put_evaluation",
)
BLOB_WRITES = ("put", "prune")


class Killed(BaseException):
    """No handler of the product catches it."""


class Dying:
    """A store whose owner dies just before one of its writes."""

    def __init__(self, target: Any, *, writes: tuple[str, ...], tick: Callable[[], None]) -> None:
        self._target, self._writes, self._tick = target, writes, tick

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name not in self._writes:
            return found

        def write(*args: Any, **kwargs: Any) -> Any:
            self._tick()
            return found(*args, **kwargs)

        return write


class Counter:
    """Counts writes, and ends the life of whoever makes the one that is fatal."""

    def __init__(self, *, fatal: int | None = None) -> None:
        self.writes, self._fatal = 0, fatal

    def tick(self) -> None:
        self.writes += 1
        if self.writes == self._fatal:
            raise Killed


def play(federation: Federation, replay: Replay, counter: Counter) -> Any:
    store: Any = RunStore(open_engine(federation.folder / "run.db"))
    blobs: Any = Dying(federation.blobs, writes=BLOB_WRITES, tick=counter.tick)
    dying: Any = Dying(store, writes=STORE_WRITES, tick=counter.tick)
    try:
        return federation.conduct(replay, store=dying, blobs=blobs, test=True)
    finally:
        store._engine.dispose()


@pytest.fixture(scope="module")
def num_writes(tiny_recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> int:
    counter = Counter()
    federation = tiny_recorded.again(tmp_path_factory.mktemp("counted"))
    play(federation, Replay(tiny_recorded.recording), counter)
    return counter.writes


def die_and_resume(recorded: Recorded, folder: Path, *, fatal: int) -> None:
    federation = recorded.again(folder)
    with pytest.raises(Killed):
        play(federation, Replay(recorded.recording), Counter(fatal=fatal))
    before = federation.rounds()
    contributed = {
        (Action.FINETUNE, record.index, site.site)
        for record in before
        for site in record.sites
        if site.state is SiteState.CONTRIBUTED
    }
    replay = Replay(recorded.recording)
    outcome, tests = play(federation, replay, Counter())

    assert outcome.release == recorded.outcome.release
    assert {site: sums.sums.tobytes() for site, sums in tests.items()} == {
        site: sums.sums.tobytes() for site, sums in recorded.tests.items()
    }
    after, expected = federation.rounds(), recorded.federation.rounds()
    assert [r.key for r in after] == [r.key for r in expected]  # no round twice
    assert all(r.state is RoundState.CLOSED for r in after)
    assert [(r.aggregate, r.metrics) for r in after] == [(r.aggregate, r.metrics) for r in expected]
    assert not contributed & set(replay.asked)  # what was written down is not asked again
    for record in before:  # and what was closed stays what it was
        if record.state is RoundState.CLOSED:
            assert record in after


@pytest.mark.parametrize("part", range(3))
def test_killed_before_some_write(
    part: int, num_writes: int, tiny_recorded: Recorded, tmp_path: Path
) -> None:
    for fatal in range(1 + part * 2, num_writes + 1, 7):
        die_and_resume(tiny_recorded, tmp_path / str(fatal), fatal=fatal)


@pytest.mark.full
def test_killed_before_every_write(
    num_writes: int, tiny_recorded: Recorded, tmp_path: Path
) -> None:
    for fatal in range(1, num_writes + 1):
        die_and_resume(tiny_recorded, tmp_path / str(fatal), fatal=fatal)


def test_killed_again_and_again(tiny_recorded: Recorded, tmp_path: Path) -> None:
    """Death after death, a few writes further each time."""
    federation = tiny_recorded.again(tmp_path)
    deaths, outcome = 0, None
    while outcome is None:
        try:
            outcome, _ = play(federation, Replay(tiny_recorded.recording), Counter(fatal=9))
        except Killed:
            deaths += 1
            assert deaths < 50, "it never gets on"
    assert deaths >= 3
    assert outcome.release == tiny_recorded.outcome.release
    assert len(federation.rounds()) == len(tiny_recorded.federation.rounds())
    run = RunStore(open_engine(tmp_path / "run.db"))
    found = run.run(RUN)
    run._engine.dispose()
    assert found is not None
    assert found.state is RunState.FINISHED
