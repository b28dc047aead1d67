"""A run that pretrains has sites to pretrain and to finetune at, or nobody trains for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from arithmetic_sites import FakeLink, reply
from pretraining import pretrained_study
from tiny import Events

from fedvol.errors import QuorumError, RunPausedError
from fedvol.federation import Action, HealthReport, Reply, Request, RunState
from fedvol.plan import Plan
from fedvol.server import Coordinator, SystemClock
from fedvol.simulation.federate import make_plan
from fedvol.store import BlobStore, RunStore, open_engine
from fedvol.types import RunId, SiteId

RUN = RunId("run")
SITES = (SiteId("a"), SiteId("b"), SiteId("c"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    engine = open_engine(tmp_path / "run.db")
    yield RunStore(engine)
    engine.dispose()


class Hospitals(FakeLink):
    """Sites: who is there at each asking, the last for good, who has labels, and scans enough."""

    def __init__(self, plan: Plan, *, there: list[str], labelled: str, able: str) -> None:
        super().__init__(plan, change=self._health)
        self._there, self._labelled, self._able = there, labelled, able
        self.num_asked = 0

    def sites(self) -> tuple[SiteId, ...]:
        now = self._there[min(self.num_asked, len(self._there)) - 1]
        return tuple(SiteId(site) for site in now)

    def _health(self, request: Request) -> Reply | None:
        assert request.action is Action.HEALTH, "nobody is asked to train"
        report = HealthReport(
            software=self.plan.software,
            architecture=self.plan.network.architecture,
            training_cases=3 if request.site in self._labelled else 0,
            pretraining_cases=9 if request.site in self._able else 0,
            validation_cases=1,
            test_cases=1,
            skipped={},
        )
        return reply(request, values=report.model_dump(mode="json"))


class Patient:
    """Lets sites be asked four times, and pauses the run before its first round."""

    def __init__(self, link: Hospitals) -> None:
        self._link = link

    @property
    def sites_return(self) -> bool:
        return True

    def between_rounds(self) -> None:
        raise RunPausedError("run", "somebody paused it", "Resume it.")

    def attempts(self) -> Iterator[None]:
        for _ in range(4):
            self._link.num_asked += 1
            yield


def conduct(
    store: RunStore, folder: Path, *, there: list[str], labelled: str, able: str = "abc"
) -> Hospitals:
    plan, initial = make_plan(pretrained_study(), sites=SITES)
    link = Hospitals(plan, there=there, labelled=labelled, able=able)
    coordinator = Coordinator(
        run=RUN,
        plan=plan,
        initial=initial,
        store=store,
        blobs=BlobStore(folder / "blobs"),
        clock=SystemClock(),
        observer=Events(),
        pacing=Patient(link),
    )
    with pytest.raises((QuorumError, RunPausedError)):
        coordinator.conduct(link)
    return link


@pytest.mark.parametrize(
    ("there", "labelled", "num_asked"),
    [
        (["abc"], "b", 1),
        (["ac"], "", 1),  # b alone could not be enough
        (["ab"], "a", 4),  # c could; it never comes
    ],
)
def test_too_few_sites_with_labels_are_told_before_anybody_trains(
    store: RunStore, tmp_path: Path, there: list[str], labelled: str, num_asked: int
) -> None:
    link = conduct(store, tmp_path, there=there, labelled=labelled)
    run = store.run(RUN)
    assert run is not None
    assert (run.state, link.num_asked) == (RunState.FAILED, num_asked)
    without = ", ".join(site for site in there[0] if site not in labelled)
    told = f"{len(labelled)} of at least 2 sites could finetune what is pretrained"
    assert told in run.reason
    assert f"labelled training case: {without})" in run.reason
    assert not store.rounds(RUN)


@pytest.mark.parametrize(
    ("there", "able", "num_asked"),
    [(["abc"], "b", 1), (["ac"], "", 1), (["ab"], "a", 4)],
)
def test_so_are_too_few_sites_with_cases_for_the_task(
    store: RunStore, tmp_path: Path, there: list[str], able: str, num_asked: int
) -> None:
    link = conduct(store, tmp_path, there=there, labelled="abc", able=able)
    run = store.run(RUN)
    assert run is not None
    assert (run.state, link.num_asked) == (RunState.FAILED, num_asked)
    without = ", ".join(site for site in there[0] if site not in able)
    assert (
        f"{len(able)} of at least 2 sites could pretrain by volume_fusion, which needs two cases "
        f"to train on (told of none that serve: {without})"
    ) in run.reason
    assert not store.rounds(RUN)


@pytest.mark.parametrize(
    ("there", "labelled", "num_asked"), [(["abc"], "ac", 1), (["ab", "ab", "abc"], "ac", 3)]
)
def test_enough_of_them_begin(
    store: RunStore, tmp_path: Path, there: list[str], labelled: str, num_asked: int
) -> None:
    link = conduct(store, tmp_path, there=there, labelled=labelled)
    run = store.run(RUN)
    assert run is not None
    assert (run.state, link.num_asked) == (RunState.PAUSED, num_asked)
