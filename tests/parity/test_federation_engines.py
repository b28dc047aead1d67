"""Where sites work changes nothing: no bit of the weights, no figure, no reason in the record."""

import multiprocessing
import os
import shutil
import signal
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from pretraining import started_text, write_weights
from tiny import CPU, Events, tiny_text

from fedvol.client.agent_spec import AgentSpec
from fedvol.config import close_study
from fedvol.config.loading import parse_open_study
from fedvol.errors import AuditError, SiteFailedError
from fedvol.federation import Action, Request, RoundState
from fedvol.files import digest_file
from fedvol.server import Coordinator, Outcome
from fedvol.simulation.engines import EngineName, start_engine
from fedvol.simulation.federate import Federated, make_plan
from fedvol.simulation.output import open_output
from fedvol.simulation.session import FEDERATED, Session, open_session
from fedvol.store import find_weights
from fedvol.transport import Fault, make_server_app
from fedvol.types import Json, RunId, SiteId

STUDY = parse_open_study(
    tiny_text(rounds="rounds = 2", strategy='kind = "fedbn"'), where="tiny.toml"
)
"""Sites keep tensors of their own, and are asked for them at the end."""

SPOILT, KILLED, BROKEN = RunId("spoilt"), RunId("killed"), RunId("broken")
STARTED = RunId("started")


class Assassin(Events):
    """Kills a worker in the midst of round 2, once it is armed."""

    armed = False

    def event(self, name: str, /, **fields: Json) -> None:
        super().event(name, **fields)
        if self.armed and name == "site.training" and fields["round"] == 2:
            self.armed = False
            victim = multiprocessing.active_children()[0]
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)


@dataclass
class Spoiler:
    """Every way in which an answer goes wrong, each once."""

    done: set[tuple[Action, SiteId]] = field(default_factory=set)

    def __call__(self, request: Request) -> Fault | None:
        fault = {
            (Action.FINETUNE, "hospital_2"): Fault.ERROR,
            (Action.FINETUNE, "hospital_3"): Fault.SILENT,
            (Action.VALIDATE, "hospital_1"): Fault.CRASH,
            (Action.VALIDATE, "hospital_2"): Fault.CORRUPT,
        }.get((request.action, str(request.site)))
        key = (request.action, request.site)
        if fault is None or key in self.done:
            return None
        self.done.add(key)
        return fault


@dataclass(kw_only=True)
class Played:
    """A session whose federation was played once as it should be, and once with faults."""

    session: Session
    observer: Assassin
    federated: Federated

    @property
    def tests(self) -> dict[SiteId, bytes]:
        return {site: sums.sums.tobytes() for site, sums in self.federated.tests.items()}


@pytest.fixture(scope="module")
def prepared(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cases of every site, prepared once; each engine works on a copy."""
    out = tmp_path_factory.mktemp("prepared")
    open_session(
        STUDY,
        data=tiny_data,
        output=open_output(out, resume=False),
        device=CPU,
        observer=Events(),
    )
    return out


def played(prepared: Path, data: Path, out: Path, engine: EngineName, workers: int) -> Played:
    shutil.copytree(prepared, out, dirs_exist_ok=True)
    observer = Assassin()
    session = open_session(
        STUDY,
        data=data,
        output=open_output(out, resume=True),
        device=CPU,
        observer=observer,
        engine=engine,
        workers=workers,
    )
    try:
        federated = session.federated()
        spoilt = coordinator_of(session, SPOILT)
        ends: list[Outcome] = []
        session.engine.run(
            make_server_app(lambda link: ends.append(spoilt.conduct(link))),
            specs_of(session),
            failures=[],
            faults=Spoiler(),
        )
    except BaseException:
        session.engine.close()
        raise
    return Played(session=session, observer=observer, federated=federated)


def coordinator_of(session: Session, run: RunId) -> Coordinator:
    return session._coordinator(run, session.plan, session.initial)


def specs_of(session: Session) -> dict[SiteId, AgentSpec]:
    return {site: session._spec(site) for site in session.sites}


@pytest.fixture(scope="module")
def expected(prepared: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return played(prepared, tiny_data, tmp_path_factory.mktemp("here"), "in-process", 1)


@pytest.fixture(scope="module", params=["2 workers", "3 workers", "2 on ray"])
def found(
    request: pytest.FixtureRequest,
    prepared: Path,
    tiny_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Played]:
    engine: EngineName = "ray" if "ray" in request.param else "in-process"
    if engine == "ray" and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    out = tmp_path_factory.mktemp("there")
    one = played(prepared, tiny_data, out, engine, int(request.param[0]))
    with closing(one.session.engine):
        yield one
    assert not multiprocessing.active_children()


def record(played: Played, run: RunId) -> list[object]:
    """Every attempt at a round, without what the clock says; `bytes_up` counts its digits."""
    no_clock = {"train_seconds": None, "bytes_up": 0, "asked": None, "answered": None}
    return [
        replace(
            attempt,
            started=None,
            ended=None,
            seconds=0.0,
            sites=tuple(replace(site, **no_clock) for site in attempt.sites),
        )
        for attempt in played.session.store.rounds(run)
    ]


def heard(played: Played, name: str) -> Counter[str]:
    return Counter(str(sorted(fields.items())) for fields in played.observer.named(name))


def test_engine_and_workers_change_no_bit(found: Played, expected: Played) -> None:
    assert found.federated.outcome == expected.federated.outcome
    assert found.tests == expected.tests
    assert record(found, FEDERATED) == record(expected, FEDERATED)
    for pattern in ("sites/*/evaluations/*", "sites/*/state/**/local-*"):
        files = sorted(found.session.output.folder.glob(pattern))
        assert files
        for path in files:
            place = path.relative_to(found.session.output.folder)
            assert digest_file(path) == digest_file(expected.session.output.folder / place), place


def started(played: Played, *, folder: Path) -> None:
    """A run that begins with a file of pretrained weights, over the session's engine.

    Files of one content make one plan: a run that was played before is not played again.
    """
    session = played.session
    file = write_weights(folder / "w.safetensors", like=session.study)
    opened = parse_open_study(
        started_text(file).replace("rounds = 3", "rounds = 1"), where="tiny.toml"
    )
    study, weights = find_weights(opened, folder=folder)
    plan, initial = make_plan(
        close_study(study, {}, where="tiny.toml"), sites=tuple(session.sites), weights=weights
    )
    (folder / "plan.json").write_text(plan.model_dump_json())
    specs = {
        site: session._describe(
            site, plan, plan_file=folder / "plan.json", folder=folder / site, sources=[site]
        )
        for site in session.sites
    }
    coordinator = session._coordinator(STARTED, plan, initial)
    session._conduct(coordinator, specs, test=False)


def test_a_run_that_begins_with_a_file_is_the_same_everywhere(
    found: Played, expected: Played, tmp_path: Path
) -> None:
    for one, name in ((expected, "here"), (found, "there")):
        (tmp_path / name).mkdir()
        started(one, folder=tmp_path / name)
    assert record(found, STARTED) == record(expected, STARTED)
    assert [r.state for r in found.session.store.rounds(STARTED)] == [RoundState.CLOSED]


def test_what_goes_wrong_has_the_same_reasons(found: Played, expected: Played) -> None:
    told = record(found, SPOILT)
    assert told == record(expected, SPOILT)
    for words in ("FV-TRAN-002", "FV-FED-005", "1 of at least 2 sites contributed"):
        assert words in str(told)
    assert heard(found, "site.refused") == heard(expected, "site.refused")


def test_workers_of_this_machine_tell_their_progress(found: Played, expected: Played) -> None:
    if found.session.engine.name == "ray":
        assert not found.observer.named("site.training")  # as docs/engines.md says
        return
    for name in ("site.training", "site.evaluating"):
        assert heard(expected, name)
        assert heard(found, name) == heard(expected, name)


def test_a_worker_killed_in_a_round_stops_the_run_which_resumes_to_the_same_bits(
    found: Played, expected: Played
) -> None:
    session = found.session
    if (session.engine.name, session.engine.num_workers) != ("in-process", 3):
        pytest.skip("one engine is enough")
    found.observer.armed = True
    with pytest.raises(SiteFailedError, match=r"ended by SIGKILL.*--resume"):
        session._conduct(coordinator_of(session, KILLED), specs_of(session), test=True)
    session.engine.close()
    assert not multiprocessing.active_children()
    states = [attempt.state for attempt in session.store.rounds(KILLED)]
    assert states[0] is RoundState.CLOSED
    assert len(states) == 2
    assert states[1] is not RoundState.CLOSED
    here = start_engine(
        "in-process",
        workers=1,
        num_threads=1,
        cases=session.cases,
        device=CPU,
        observer=found.observer,
    )
    again = replace(session, engine=here)
    federated = again._conduct(coordinator_of(again, KILLED), specs_of(again), test=True)
    resumed = Played(session=again, observer=found.observer, federated=federated)
    assert federated.outcome == expected.federated.outcome
    assert resumed.tests == expected.tests
    assert [attempt.key.attempt for attempt in session.store.rounds(KILLED)] == [1, 1]


def test_a_site_that_fails_stops_the_run_with_its_own_error(
    found: Played, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The last test of an engine: others may still be at work when it stops."""
    session = found.session
    if session.engine.num_workers != 2:
        pytest.skip("its workers were killed")
    damaged = tmp_path_factory.mktemp("damaged")
    (damaged / "audit.jsonl").write_text("{}\n")
    specs: Mapping[SiteId, AgentSpec] = specs_of(session)
    site = SiteId("hospital_2")
    broken = specs[site].model_copy(update={"folder": str(damaged)})
    with pytest.raises(AuditError, match=f"{damaged}/audit.jsonl"):
        session._conduct(coordinator_of(session, BROKEN), {**specs, site: broken}, test=False)
