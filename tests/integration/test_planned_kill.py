"""`fedvol simulate` on an open study, killed while it plans and while it trains: the same end."""

import json
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tiny import events, fedvol_command, figures, half_written, tiny_text

from fedvol.audit import verify_log
from fedvol.files import digest_file
from fedvol.plan import Plan

PLANNED = ("preprocessing.normalisation", "patches.size", "patches.batch_size")


def told(out: Path) -> Counter[str]:
    """How often each event was told."""
    path = out / "events.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return Counter(json.loads(line)["event"] for line in lines)


def killed_at(words: list[str | Path], *, out: Path, event: str, times: int = 1) -> None:
    """Run until an event has been told so often in all lives, and kill -9 at once."""
    with subprocess.Popen(
        fedvol_command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            while process.poll() is None and told(out)[event] < times:
                wait(process)
            process.send_signal(signal.SIGKILL)
            _, said = process.communicate()
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL, said.decode()


def wait(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(timeout=0.005)
    except subprocess.TimeoutExpired:
        return


def finished(words: list[str | Path]) -> None:
    ended = subprocess.run(fedvol_command(*words), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "open.toml"
    path.write_text(tiny_text(normalisation="", size="", batch_size="", rounds="rounds = 2"))
    return path


@pytest.mark.timeout(1200)
def test_same_plan_and_weights(study: Path, tiny_data: Path, tmp_path: Path) -> None:
    once, out = tmp_path / "once", tmp_path / "out"
    words = ["simulate", study, "--data", tiny_data, "--device", "cpu", "--baselines", "pooled"]
    finished([*words, "--out", once])
    held = Plan.model_validate_json((once / "plan.json").read_bytes())
    assert held.planning is not None
    assert tuple(choice.key for choice in held.planning.choices) == PLANNED
    assert told(once)["site.fingerprint"] == 3

    again = [*words, "--out", out]
    killed_at(again, out=out, event="site.fingerprint")
    assert not (out / "plan.json").exists()  # it died before a run began
    again.append("--resume")
    killed_at(again, out=out, event="round.opened", times=2)
    assert told(out)["plan.made"]  # and the plan was made once more, or for the first time
    planned, counted = told(out)["plan.made"], told(out)["site.fingerprint"]
    finished(again)
    assert told(out)["plan.made"] == planned  # a run that has begun keeps its plan
    assert told(out)["site.fingerprint"] == counted

    for name in ("plan.json", "fingerprint.json"):
        assert (out / name).read_bytes() == (once / name).read_bytes(), name
    weights = {path.name: digest_file(path) for path in (once / "checkpoints").iterdir()}
    assert {path.name: digest_file(path) for path in (out / "checkpoints").iterdir()} == weights
    assert figures(out / "result.json") == figures(once / "result.json")
    assert half_written(out) == []
    assert events(out)
    for log in out.glob("sites/*/audit.jsonl"):
        assert verify_log(log).records
        assert '"query.fingerprint"' in log.read_text()
