"""Thin patches that are rotated out of their volume are advised against."""

import json

import pytest
from tiny import tiny_text

from fedvol.config.data import Augmentation
from fedvol.config.patch_advice import rotation_advice

THIN = (160, 160, 28)


@pytest.mark.parametrize(
    ("size", "rotation_deg", "probability", "degrees"),
    [
        (THIN, 30.0, 0.2, 10),
        ((28, 160, 160), 10.5, 1.0, 10),
        ((16, 49, 49), 30.0, 0.2, 19),
        ((16, 48, 48), 30.0, 0.2, None),  # 3 times as long is not thin
        (THIN, 10.0, 0.2, None),
        (THIN, 30.0, 0.0, None),
    ],
)
def test_the_angle_follows_from_the_sides(
    size: tuple[int, int, int], rotation_deg: float, probability: float, degrees: int | None
) -> None:
    augmentation = Augmentation(rotation_deg=rotation_deg, rotation_probability=probability)
    advice = rotation_advice(size, augmentation=augmentation)
    if degrees is None:
        assert advice == ""
    else:
        assert advice.endswith(f"think of {degrees} degrees or less")


def test_check_and_plan_give_the_advice(fedvol, tmp_path, tiny_data) -> None:
    study = tmp_path / "thin.toml"
    study.write_text(tiny_text(size="size = [64, 64, 16]"))
    for words in (["check", study], ["plan", study, "--data", tiny_data]):
        ended = fedvol("study", *words, "--json")
        assert ended.status == 0, ended.err
        assert "64 × 64 × 16 voxels are thin" in json.loads(ended.out)["advice"]
        assert "Advice: augmentation.rotation_deg" in ended.err
    study.write_text(tiny_text())
    plain = fedvol("study", "check", study, "--json")
    assert json.loads(plain.out)["advice"] == ""
    assert "Advice" not in plain.err
