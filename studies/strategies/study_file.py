"""The study of one run, as text: everything alike but what is compared."""

from studies.strategies.budget import Budget
from studies.strategies.contenders import LEARNING_RATE, Contender
from studies.strategies.settings import Setting

_COMMON = """
# Geometry alone: changed intensities would teach each site what scanners of others look like.
[augmentation]
rotation_deg = 15.0
rotation_probability = 0.3
scale = [0.85, 1.2]
scale_probability = 0.3
noise_probability = 0.0
blur_probability = 0.0
brightness_probability = 0.0
contrast_probability = 0.0
low_resolution_probability = 0.0
gamma_probability = 0.0
mirror_axes = {mirror_axes}

[network]
kind = "unet"
features = [8, 16, 32]
norm = "instance"
deep_supervision = false

[task]
kind = "segmentation"
batch_dice = true
"""

_TRAINING = """
[stages.training]
optimiser = {{ kind = "adamw", learning_rate = {rate} }}
num_threads = 1
"""

_EVALUATION = """
[evaluation]
metrics = ["dice"]
overlap = 0.25
mirror_axes = []
bootstrap_replicates = 100
"""


def study_text(setting: Setting, contender: Contender, *, seed: int, budget: Budget) -> str:
    """A whole study file.

    Args:
        setting: The data.
        contender: What is compared.
        seed: Of initial weights and draws.
        budget: How long it trains.

    Raises:
        ValueError: The contender's settings are not chosen yet.
    """
    if contender.candidates:
        raise ValueError(f"{contender.name}: the pilot has to choose its settings first")
    (rounds, steps), personal = contender.rounds(budget)
    parts = [
        f"""version = 1
name = "strategies-{setting.name}-{contender.name}"
purpose = "Compare ways of federated training; the model is of no clinical use."
seed = {seed}
""",
        setting.tables(seed),
        _COMMON.format(mirror_axes=setting.mirror_axes),
        f"""
[[stages]]
kind = "finetune"
rounds = {rounds}
steps_per_round = {steps}

[stages.strategy]
{contender.strategy}
""",
        _TRAINING.format(rate=LEARNING_RATE),
    ]
    if personal is not None:
        rounds, steps = personal
        parts += [
            f"""
[[stages]]
kind = "personalise"
method = {{ {contender.method} }}
rounds = {rounds}
steps_per_round = {steps}
""",
            _TRAINING.format(rate=contender.learning_rate),
        ]
    return "".join([*parts, _EVALUATION])
