"""What the cross-checks must not refuse."""

from pathlib import Path

import pytest

from fedvol.config.loading import parse_study

TEXT = (Path(__file__).parents[3] / "examples" / "hippocampus.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('select_by = "dice"', 'select_by = "nsd/posterior"'),
        ("nsd_tolerance_mm = 1.0", "nsd_tolerance_mm = { anterior = 1, posterior = 2.5 }"),
        ('norm = "instance"', 'norm = "none"'),
        ('norm = "instance"', 'norm = "batch"'),
        (
            'norm = "instance"',
            'norm = "instance"\nstrides = [[1, 1, 1], [2, 2, 2], [2, 2, 2], [1, 2, 1]]',
        ),
        ('{ kind = "z_score" }', '{ kind = "window", window_hu = [-200, 300] }'),
        ('{ kind = "fold", test = 0, validation = 1 }', '{ kind = "hash" }'),
        ("mirror_axes = [0] # a left", "mirror_axes = [] # a left"),
        ("min_sites = 3", "min_sites = 1"),
        ("size = [32, 48, 32]", "size = [8, 8, 16]"),
    ],
)
def test_allowed(old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    parse_study(TEXT.replace(old, new), where="x")


def test_one_voxel_is_fine_without_instance_norm() -> None:
    text = TEXT.replace("size = [32, 48, 32]", "size = [8, 8, 8]")
    parse_study(text.replace('norm = "instance"', 'norm = "none"'), where="x")
