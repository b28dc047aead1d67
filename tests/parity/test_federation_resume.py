"""A coordinator that is killed at any of its writes ends with the bits of one that never was.

Sites are replayed, so that every point can be tried; `tests/integration` kills real processes.
"""

from pathlib import Path
from typing import Any

import pytest
from killing import BLOB_WRITES, STORE_WRITES, Counter, Dying, Killed
from tiny import RUN, Federation, Recorded, Replay, make_federation, personalise, record, tiny_study

from fedvol.federation import Action, RoundState, RunState, SiteState
from fedvol.store import RunStore, open_engine

DONE = {
    SiteState.CONTRIBUTED: Action.FINETUNE,
    SiteState.PERSONALISED: Action.PERSONALISE,
}


def play(federation: Federation, replay: Replay, counter: Counter) -> Any:
    store: Any = RunStore(open_engine(federation.folder / "run.db"))
    blobs: Any = Dying(federation.blobs, writes=BLOB_WRITES, tick=counter.tick)
    dying: Any = Dying(store, writes=STORE_WRITES, tick=counter.tick)
    try:
        return federation.conduct(replay, store=dying, blobs=blobs, test=True)
    finally:
        store._engine.dispose()


@pytest.fixture(scope="module", params=["fedavg", "scaffold and ditto"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """A federation played once with real sites; the second has more state than the weights."""
    if request.param == "fedavg":
        return request.getfixturevalue("tiny_recorded")
    cases = request.getfixturevalue("tiny_cases")
    folder = request.getfixturevalue("tmp_path_factory").mktemp("recorded")
    study = tiny_study(
        rounds="rounds = 2",
        strategy='kind = "scaffold"',
        more=personalise('kind = "ditto"', rounds=2, steps=1),
    )
    return record(make_federation(study, cases=cases, folder=folder))


@pytest.fixture(scope="module")
def num_writes(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> int:
    counter = Counter()
    federation = recorded.again(tmp_path_factory.mktemp("counted"))
    play(federation, Replay(recorded.recording), counter)
    return counter.writes


def die_and_resume(recorded: Recorded, folder: Path, *, fatal: int) -> None:
    federation = recorded.again(folder)
    with pytest.raises(Killed):
        play(federation, Replay(recorded.recording), Counter(fatal=fatal))
    before = federation.rounds()
    contributed = {
        (action, earlier.stage, earlier.index, site.site)
        for earlier in before
        for site in earlier.sites
        for state, action in DONE.items()
        if site.state is state
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
    for earlier in before:  # and what was closed stays what it was
        if earlier.state is RoundState.CLOSED:
            assert earlier in after


@pytest.mark.parametrize("part", range(3))
def test_killed_before_some_write(
    part: int, num_writes: int, recorded: Recorded, tmp_path: Path
) -> None:
    for fatal in range(1 + part * 2, num_writes + 1, 7):
        die_and_resume(recorded, tmp_path / str(fatal), fatal=fatal)


@pytest.mark.full
def test_killed_before_every_write(num_writes: int, recorded: Recorded, tmp_path: Path) -> None:
    for fatal in range(1, num_writes + 1):
        die_and_resume(recorded, tmp_path / str(fatal), fatal=fatal)


def test_killed_again_and_again(recorded: Recorded, tmp_path: Path) -> None:
    """Death after death, a few writes further each time."""
    federation = recorded.again(tmp_path)
    deaths, outcome = 0, None
    while outcome is None:
        try:
            outcome, _ = play(federation, Replay(recorded.recording), Counter(fatal=9))
        except Killed:
            deaths += 1
            assert deaths < 80, "it never gets on"
    assert deaths >= 3
    assert outcome.release == recorded.outcome.release
    assert len(federation.rounds()) == len(recorded.federation.rounds())
    run = RunStore(open_engine(tmp_path / "run.db"))
    found = run.run(RUN)
    run._engine.dispose()
    assert found is not None
    assert found.state is RunState.FINISHED
