"""Several real processes append to one log, and some are killed in the middle of a write."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_logs import Signer, record
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.audit import AuditLog, LogLine, verify_log

APPENDERS = Path(__file__).parents[2] / "audit_appenders.py"
NUM_PROCESSES, NUM_EVENTS = 4, 10

Play = Callable[..., Counter[tuple[int, int]]]


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Plays a scenario and tells the events that `append` returned for."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(APPENDERS)], stdin=pipe, stdout=pipe) as appenders:
        told, heard = appenders.stdin, appenders.stdout
        assert told is not None
        assert heard is not None

        def play(path: Path, **said: Any) -> Counter[tuple[int, int]]:
            told.write(json.dumps({"path": str(path), **said}).encode() + b"\n")
            told.flush()
            return Counter((process, event) for process, event in json.loads(heard.readline()))

        yield play
        told.close()
    assert appenders.returncode == 0


def updates_of(path: Path) -> list[tuple[int, int]]:
    """Process and number of each event in a log, which must verify with its key."""
    found: list[LogLine] = []
    summary = verify_log(path, keys=[Signer().public.hex], take=found.append)
    assert summary.records == len(found)
    events = [line.event for line in found if line.event["kind"] == "update"]
    return [(int(str(event["run"]).split()[1]), int(str(event["round"]))) for event in events]


@settings(max_examples=10, deadline=None)
@given(
    deaths=st.dictionaries(
        st.integers(0, NUM_PROCESSES - 1),
        st.tuples(st.integers(0, NUM_EVENTS - 1), st.floats(0, 1)),
        min_size=1,
        max_size=2,
    )
)
def test_nothing_is_lost_that_append_had_returned_for(
    tmp_path_factory: pytest.TempPathFactory, play: Play, deaths: dict[int, tuple[int, float]]
) -> None:
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    acknowledged = play(
        path, num=NUM_EVENTS, num_processes=NUM_PROCESSES, deaths=deaths, kill_after=-1
    )
    last = {process: deaths.get(process, (NUM_EVENTS,))[0] for process in range(NUM_PROCESSES)}
    assert acknowledged == Counter((process, e) for process in last for e in range(last[process]))

    with AuditLog(path, signer=Signer()) as log:
        log.append(record(0, run=f"process {NUM_PROCESSES}"))
    *updates, after = updates_of(path)
    assert after == (NUM_PROCESSES, 0)
    # Whoever died when its line was whole wrote an event that nobody heard of; it never left.
    unheard = Counter(updates) - acknowledged
    assert not acknowledged - Counter(updates)
    assert set(unheard) <= {(process, event) for process, (event, _) in deaths.items()}
    assert set(Counter(updates).values()) == {1}
    for process in range(NUM_PROCESSES):
        own = [event for who, event in updates if who == process]
        assert own == sorted(own)


@pytest.mark.parametrize("num_processes", [1, 3])
def test_processes_killed_at_any_moment_leave_a_log_that_goes_on(
    tmp_path: Path, play: Play, num_processes: int
) -> None:
    path = tmp_path / "audit.jsonl"
    acknowledged = play(path, num=10**6, num_processes=num_processes, deaths={}, kill_after=30)
    assert acknowledged.total() >= 30
    with AuditLog(path, signer=Signer()) as log:
        log.append(record(0, run=f"process {num_processes}"))
    updates = Counter(updates_of(path))
    assert not acknowledged - updates
    assert updates.total() <= acknowledged.total() + num_processes + 1
