"""Runs side by side: one that fails, and those that needed it."""

from pathlib import Path

from tiny import Events

from fedvol.simulation.sweep.processes import Work, carry_out


def test_a_run_that_fails_is_told_and_those_that_need_it_do_not_begin(tmp_path: Path) -> None:
    def work(name: str, *, after: str = "") -> Work:
        return Work(
            name=name,
            study=tmp_path / f"{name}.toml",
            data=tmp_path,
            out=tmp_path / name,
            device="cpu",
            after=after,
        )

    works = [work("first"), work("second", after="first"), work("third", after="second")]
    ends = {one.work.name: one.reason for one in carry_out(works, jobs=2, observer=Events())}
    assert [*ends] == ["first", "second", "third"]
    assert ends["first"].startswith("FV-CONF-001")
    assert ends["second"] == "it needs first, which failed"
    assert ends["third"] == "it needs second, which failed"
    assert [path.name for path in tmp_path.iterdir()] == []
