"""A study and hospitals small enough that a whole federation takes seconds."""

from pathlib import Path

from fedvol.config import Study
from fedvol.config.loading import parse_study
from fedvol.data.phantom import default_hospitals, generate_hospitals

TINY_STUDY = """
version = 1
name = "tiny"
purpose = "A federation small enough for a test."
seed = 7

[data]
channels = ["CT"]
labels = { liver = 1, kidney = 2, lesion = 3 }
split = { kind = "fold", test = 0, validation = 1 }

[preprocessing]
spacing_mm = [4.0, 4.0, 4.0]
normalisation = { kind = "window", window_hu = [-200.0, 300.0] }

[patches]
size = [16, 16, 16]
batch_size = 2

[network]
kind = "unet"
features = [4, 8]

[task]
kind = "segmentation"

[[stages]]
kind = "finetune"
rounds = 3
steps_per_round = 3

[stages.strategy]
kind = "fedavg"

[stages.training]
optimiser = { kind = "adamw", learning_rate = 5e-3 }
num_threads = 1

[evaluation]
metrics = ["dice", "hd95_mm", "nsd"]
mirror_axes = []
bootstrap_replicates = 100
"""


def tiny_study(**changes: str) -> Study:
    """The tiny study, with the whole line of each key given replaced."""
    return parse_study(tiny_text(**changes), where="tiny.toml")


def tiny_text(**changes: str) -> str:
    """The tiny study's text, with the whole line of each key given replaced."""
    text = TINY_STUDY
    for key, line in changes.items():
        lines = [
            line if existing.split("=")[0].strip() == key else existing
            for existing in text.splitlines()
        ]
        assert line in lines, f"no key {key} in the tiny study"
        text = "\n".join(lines) + "\n"
    return text


def make_hospitals(folder: Path, *, num_sites: int = 3, num_cases: int = 6) -> Path:
    """Generated hospitals in `folder`."""
    generate_hospitals(folder, hospitals=default_hospitals(num_sites, num_cases), seed=3)
    return folder
