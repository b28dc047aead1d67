"""A segmentation study of generated hospitals, small enough to be timed."""

from fedvol.config import OpenStudy, Study
from fedvol.config.loading import parse_open_study, parse_study

_TEXT = """
version = 1
name = "timed"
purpose = "Measure what a federation costs."

[data]
channels = ["CT"]
labels = {{ liver = 1, kidney = 2, lesion = 3 }}
split = {{ kind = "fold", test = 0, validation = 1 }}

[preprocessing]
spacing_mm = [4.0, 4.0, 4.0]
normalisation = {{ kind = "window", window_hu = [-200.0, 300.0] }}

[patches]
size = [16, 16, 16]
batch_size = 2

[network]
kind = "unet"
features = [{features}]

[task]
kind = "segmentation"

[[stages]]
kind = "finetune"
rounds = {rounds}
steps_per_round = {steps}

[stages.strategy]
kind = "fedavg"

[stages.training]
optimiser = {{ kind = "adamw", learning_rate = 1e-3 }}
num_threads = {num_threads}

[evaluation]
mirror_axes = []
bootstrap_replicates = 100
"""


def phantom_study(
    features: tuple[int, ...], *, rounds: int, steps: int, num_threads: int
) -> OpenStudy:
    """A FedAvg study of a U-Net over `fedvol.data.phantom`'s hospitals.

    Args:
        features: Channels of each level.
        rounds: Rounds.
        steps: Gradient steps of a site in each.
        num_threads: CPU threads of one training.
    """
    text = _text(features, rounds=rounds, steps=steps, num_threads=num_threads)
    return parse_open_study(text, where="timed.toml")


def study_of_all(*, rounds: int, num_sites: int) -> Study:
    """A FedAvg study in which every one of so many sites must take part, for sites without cases.

    Args:
        rounds: Rounds, of one step each.
        num_sites: How many sites it has.
    """
    text = _text((4, 8), rounds=rounds, steps=1, num_threads=1)
    return parse_study(f"{text}\n[federation]\nmin_sites = {num_sites}\n", where="timed.toml")


def _text(features: tuple[int, ...], *, rounds: int, steps: int, num_threads: int) -> str:
    return _TEXT.format(
        features=", ".join(map(str, features)),
        rounds=rounds,
        steps=steps,
        num_threads=num_threads,
    )
