"""A study as one process plays it, and the same study put to a `Network`."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from network import Network
from tiny import CPU, Events

from fedvol.audit import compare_logs
from fedvol.config import OpenStudy
from fedvol.server import Outcome
from fedvol.simulation.output import open_output
from fedvol.simulation.session import FEDERATED, Session, open_session
from fedvol.store import (
    CheckpointKind,
    RoundRecord,
    RunRecord,
    RunStore,
    open_engine,
    read_record,
)
from fedvol.types import RunId, SiteId


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one process makes of the study."""

    session: Session
    outcome: Outcome


@contextmanager
def expecting(study: OpenStudy, *, data: Path, folder: Path) -> Generator[Expected]:
    """Play a study in this process."""
    session = session_in(folder / "here", study, data=data)
    yield Expected(session=session, outcome=session.federated().outcome)
    session.engine.close()


def session_in(folder: Path, study: OpenStudy, *, data: Path) -> Session:
    """A study over some data, its cases prepared."""
    return open_session(
        study,
        data=data,
        output=open_output(folder, resume=False),
        device=CPU,
        observer=Events(),
    )


@contextmanager
def networked(session: Session, *, data: Path, folder: Path) -> Generator[Network]:
    """A network of the session's sites with the same volumes, each with a folder of its own."""
    volumes = {site: data / site for site in session.sites}
    with Network(
        folder=folder, plan=session.plan, initial=session.initial, volumes=volumes
    ) as network:
        network.start()
        yield network


def recorded(network: Network, run: str) -> tuple[RunRecord, tuple[RoundRecord, ...]]:
    """What the server's store says of a run."""
    engine = open_engine(network.server / "server.db")
    try:
        store = RunStore(engine)
        record = store.run(RunId(run))
        assert record is not None
        return record, store.rounds(RunId(run))
    finally:
        engine.dispose()


def require_same(expected: Expected, network: Network, run: str, told: dict[str, Any]) -> None:
    """The weights of every round, and the release, are those of one process."""
    assert told["release"] == expected.outcome.release
    assert told["best_round"] == expected.outcome.best_round
    assert told["tests"] == sorted(expected.session.sites)
    ours = [(r.index, r.attempt, r.aggregate) for r in recorded(network, run)[1]]
    records = expected.session.store.rounds(FEDERATED)
    assert ours == [(r.index, r.attempt, r.aggregate) for r in records]
    for site in expected.session.sites:
        compared = compare_logs(audit_of(network, site), network.server / "audit.jsonl")
        assert compared.num_contradictions == 0, compared.as_json()


def require_same_pretrained(expected: Expected, network: Network, run: str) -> None:
    """The pretrained weights that the server gives away are those of one process."""
    (ours,) = expected.session.store.checkpoints(FEDERATED, kind=CheckpointKind.PRETRAINED)
    engine = open_engine(network.server / "server.db")
    try:
        (theirs,) = RunStore(engine).checkpoints(RunId(run), kind=CheckpointKind.PRETRAINED)
    finally:
        engine.dispose()
    assert (theirs.digest, theirs.round) == (ours.digest, ours.round)
    assert read_record(network.server / "blobs" / run / f"{theirs.digest}.safetensors")


def audit_of(network: Network, site: SiteId) -> Path:
    """A site's audit log, which tells of every run over this network."""
    return network.folder / "sites" / site / "audit.jsonl"
