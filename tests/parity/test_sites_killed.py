"""Server and sites end together, in the middle of steps, and go on to the same bits.

`test_federation_resume` ends the server alone, `integration` real processes; here both ends live in
one process, and the strategies have state of their own on both sides.
"""

from pathlib import Path

import pytest
from killing import Killed
from tiny import RUN, Events, Federation, make_federation, personalise, tiny_study

from fedvol.files import digest_file
from fedvol.types import Json

STUDY = tiny_study(
    strategy='kind = "scaffold"',
    rounds="rounds = 2",
    num_threads="num_threads = 1\ncheckpoint_every_s = 1e-6",
    more=personalise('kind = "ditto"', steps=3) + "checkpoint_every_s = 1e-6\n",
)


class Mortal(Events):
    """Ends the process at the n-th event of its life."""

    def __init__(self, *, fatal: int) -> None:
        super().__init__()
        self._left = fatal

    def event(self, name: str, /, **fields: Json) -> None:
        super().event(name, **fields)
        self._left -= 1
        if self._left == 0:
            raise Killed


def state_files(federation: Federation) -> dict[str, str]:
    """Every file that sites keep, by its digest."""
    folders = [federation.site(site) / "state" / RUN for site in federation.plan.sites]
    return {
        str(path.relative_to(federation.folder)): digest_file(path)
        for folder in folders
        for path in sorted(folder.rglob("*.safetensors"))
    }


@pytest.fixture(scope="module")
def whole(tiny_cases, tmp_path_factory: pytest.TempPathFactory) -> tuple[Federation, str]:
    federation = make_federation(STUDY, cases=tiny_cases, folder=tmp_path_factory.mktemp("whole"))
    outcome, _ = federation.run(test=True)
    return federation, outcome.release


@pytest.mark.parametrize("fatal", [5, 8, 13])
def test_ending_again_and_again_changes_no_bit(
    fatal: int, whole: tuple[Federation, str], tiny_cases, tmp_path: Path
) -> None:
    expected, release = whole
    deaths = 0
    while True:
        # Each life builds everything anew over what lies on disk.
        federation = make_federation(STUDY, cases=tiny_cases, folder=tmp_path)
        federation.observer = Mortal(fatal=fatal + deaths // 4)
        try:
            outcome, _ = federation.run(test=True)
            break
        except Killed:
            deaths += 1
            assert deaths < 60, "it never gets on"
    assert deaths >= 4
    assert outcome.release == release
    assert state_files(federation) == state_files(expected)
    ours, theirs = federation.rounds(), expected.rounds()
    assert [r.key for r in ours] == [r.key for r in theirs]
    assert [(r.aggregate, r.metrics) for r in ours] == [(r.aggregate, r.metrics) for r in theirs]
    assert {s: p.sums.tobytes() for s, p in federation.personal_tests.items()} == {
        s: p.sums.tobytes() for s, p in expected.personal_tests.items()
    }
    assert not list(tmp_path.rglob("*.progress"))
