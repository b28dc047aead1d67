"""What a hospital's process does beside its worker."""

import threading
from pathlib import Path

from audit_logs import Signer, record
from tiny import Events

from fedvol.audit import AuditLog, Cadence, verify_log
from fedvol.client.hospital import _keep_in_step, _tell_progress
from fedvol.errors import LinkDownError


class Away:
    """A server that cannot be reached; the process is asked to end meanwhile."""

    def __init__(self, ended: threading.Event) -> None:
        self.ended = ended

    def once(self) -> None:
        self.ended.set()
        raise LinkDownError("server", "it is away", "Wait.")


def test_the_workers_lines_are_signed_even_while_the_server_is_away(tmp_path: Path) -> None:
    path, ended, events = tmp_path / "audit.jsonl", threading.Event(), Events()
    log = AuditLog(path, signer=Signer(), cadence=Cadence(num_records=1))
    AuditLog(path).append(record())  # as the worker does, and dies
    assert verify_log(path).num_unsigned == 1
    _keep_in_step(Away(ended), log, 0.0, events, ended)  # type: ignore[arg-type]
    assert verify_log(path, keys=[Signer().public.hex]).num_unsigned == 0
    assert len(events.named("sync.failed")) == 1
    assert not events.named("audit.failed")


class Teller:
    """A training begins when somebody waits for it; the process is to end once it was told of."""

    def __init__(self, ended: threading.Event) -> None:
        self.ended, self.done = ended, list[str]()

    def wait(self, seconds: float) -> bool:
        self.done.append("waited")
        return len(self.done) == 2

    def once(self) -> None:
        self.done.append("told")
        self.ended.set()


def test_progress_is_told_as_soon_as_there_is_a_training() -> None:
    ended = threading.Event()
    teller = Teller(ended)
    _tell_progress(teller, Events(), ended)  # type: ignore[arg-type]
    assert teller.done == ["waited", "waited", "told"]
