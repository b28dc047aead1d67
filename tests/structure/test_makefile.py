"""What `make` does on a machine that lacks something, and when it is called again."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# As Debian's python3 without python3-venv: the folder is begun, pip is not in it.
NO_VENV = """#!/bin/sh
mkdir -p "$3/bin"
printf '#!/bin/sh\\n' > "$3/bin/python"
chmod +x "$3/bin/python"
echo "ensurepip is not available" >&2
exit 1
"""
WITH_VENV = """#!/bin/sh
mkdir -p "$3/bin"
for tool in python pip; do
    printf '#!/bin/sh\\n' > "$3/bin/$tool"
    chmod +x "$3/bin/$tool"
done
"""


def _make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _python(path: Path, script: str) -> str:
    path.write_text(script)
    path.chmod(0o755)
    return f"PYTHON={path}"


def test_without_venv_every_call_says_what_to_install(tmp_path: Path) -> None:
    venv, python = tmp_path / "venv", _python(tmp_path / "python3", NO_VENV)
    words = [f"{venv}/.runtime", f"VENV={venv}", python]
    for _ in range(2):
        done = _make(*words)
        assert done.returncode != 0
        assert "install python3-venv" in done.stderr
        assert not (venv / ".runtime").exists()
    _python(tmp_path / "python3", WITH_VENV)
    assert _make(*words).returncode == 0
    assert (venv / ".runtime").exists()


def test_demo_goes_on_wherever_an_earlier_one_stopped(tmp_path: Path) -> None:
    """`--resume` takes a new folder, too; tests/unit/cli/test_demo.py shows it."""
    done = _make("-n", "demo")
    assert "fedvol demo --out demo-out --resume" in done.stdout
