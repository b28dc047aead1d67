"""Appends to one audit log from several processes that may die in the middle of a write.

Reads scenarios as lines of JSON and answers each with `[[process, event], ...]`: the events that
`append` returned for, in the order in which this was heard. A scenario has the log's `path`, the
`num` of events of each process, `num_processes`, `deaths` (process to the event at which it dies
and the share of its bytes that it still writes) and `kill_after`: how many events are heard of
before whoever still lives is killed, wherever it is.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from audit_logs import Signer, record

from fedvol.audit import AuditLog, Cadence
from fedvol.audit import log as log_module
from fedvol.audit.log_file import append_bytes


def work(said: dict[str, Any], *, process: int, heard: int) -> None:
    """One process's appends. The first two sign."""
    death, event = said["deaths"].get(str(process)), 0

    def dying(file: Any, data: bytes, *, at: int) -> None:
        if death is None or event != death[0]:
            append_bytes(file, data, at=at)
            return
        file.truncate(at)
        file.seek(at)
        file.write(data[: int(len(data) * death[1])])
        os.kill(os.getpid(), signal.SIGKILL)

    log_module.append_bytes = dying
    signer = Signer() if process < 2 else None
    cadence = Cadence(num_records=7)
    log = AuditLog(Path(said["path"]), signer=signer, cadence=cadence)
    for event in range(said["num"]):
        log.append(record(event, run=f"process {process}"))
        os.write(heard, f"{process} {event}\n".encode())  # whole, whoever else writes
    log.close()


def play(said: dict[str, Any]) -> list[list[int]]:
    """One scenario."""
    listening, heard = os.pipe()
    children: list[int] = []
    for process in range(said["num_processes"]):
        if child := os.fork():
            children.append(child)
            continue
        os.close(listening)
        work(said, process=process, heard=heard)
        os._exit(0)
    os.close(heard)
    events: list[list[int]] = []
    with os.fdopen(listening) as lines:
        for line in lines:
            events.append([int(word) for word in line.split()])
            if len(events) == said["kill_after"]:
                for child in children:
                    os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    return events


if __name__ == "__main__":
    for scenario in sys.stdin:
        sys.stdout.write(f"{json.dumps(play(json.loads(scenario)))}\n")
        sys.stdout.flush()
