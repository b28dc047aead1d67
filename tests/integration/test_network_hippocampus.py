"""The hippocampus study, shortened, at four real site processes: the weights of one process."""

import csv
import re
import shutil
from pathlib import Path

import pytest
from network_study import expecting, networked, require_same

from fedvol.config.loading import parse_open_study

ROOT = Path(__file__).parents[2]
KEPT = 8
"""Cases of each fold and site, so that preparing them four times takes seconds."""


@pytest.fixture(scope="module")
def hospitals(fedvol_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four sites' volumes, in a folder each, as hospitals hold them."""
    source, folder = fedvol_data / "msd_hippocampus", tmp_path_factory.mktemp("hospitals")
    rows = list(csv.DictReader((source / "sites.csv").read_text().splitlines()))
    for site in sorted({row["site"] for row in rows}):
        of_site = [row for row in rows if row["site"] == site]
        own = [
            row for fold in "012" for row in [one for one in of_site if one["fold"] == fold][:KEPT]
        ]
        for part in ("imagesTr", "labelsTr"):
            (folder / site / part).mkdir(parents=True)
            for row in own:
                name = f"{row['case']}.nii.gz"
                shutil.copyfile(source / part / name, folder / site / part / name)
        with (folder / site / "cases.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, ["case", "subject", "site", "fold"], extrasaction="ignore")
            table.writeheader()
            table.writerows(own)
    return folder


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_four_hospitals_make_the_weights_of_a_simulation(
    hospitals: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = (ROOT / "examples" / "hippocampus.toml").read_text()
    for key, value in (("rounds", 2), ("steps_per_round", 3)):
        text, count = re.subn(rf"(?m)^{key} = \d+", f"{key} = {value}", text)
        assert count == 1
    study = parse_open_study(text, where="hippocampus.toml")
    with (
        expecting(study, data=hospitals, folder=tmp_path_factory.mktemp("expected")) as expected,
        networked(
            expected.session, data=hospitals, folder=tmp_path_factory.mktemp("network")
        ) as network,
    ):
        assert len(expected.session.sites) == 4
        network.begin("hippocampus")
        require_same(expected, network, "hippocampus", network.finish())
