"""The study of strategies at its smallest: one command runs it, resumes it, and prints tables."""

from pathlib import Path

from studies.strategies.__main__ import main

NAMES = ("design", "pilot", "figures")
WORDS = ["--quick", "--setting", "label", "--seed", "0", "--only", "fedavg", "--only", "ditto"]


def test_it_runs_once_and_shows_every_model(tmp_path: Path, capsys) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- {n} -->\n<!-- end of {n} -->\n" for n in NAMES))
    words = [*WORDS, "--out", str(tmp_path / "out"), "--page", str(page)]

    assert main(words) == 0
    first = capsys.readouterr()
    assert "0 of 2 runs are finished" in first.err
    for row in ("| FedAvg |", "| FedAvg, then Ditto, lambda 0.1 |", "| all cases in one place |"):
        assert first.out.count(row) == 2, row  # by site and by class
    assert first.out.strip() in page.read_text()

    assert main(words) == 0
    again = capsys.readouterr()
    assert "2 of 2 runs are finished" in again.err
    assert again.out == first.out


def test_a_run_that_fails_is_named_with_its_log(tmp_path: Path, capsys) -> None:
    empty = tmp_path / "volumes"
    empty.mkdir()
    words = ["--quick", "--setting", "hippocampus", "--seed", "0", "--only", "scaffold"]
    assert main([*words, "--out", str(tmp_path / "out"), "--hippocampus", str(empty)]) == 1
    told = capsys.readouterr()
    log = tmp_path / "out" / "logs" / "hippocampus-scaffold-0.txt"
    assert f"failed: {log}" in told.err
    assert "FV-DATA" in log.read_text()
    assert "Not run yet." in told.out
