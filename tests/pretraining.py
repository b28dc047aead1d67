"""The tiny study with a pretraining before it."""

from tiny import tiny_text

from fedvol.config import Study
from fedvol.config.loading import parse_study

FUSION = 'kind = "volume_fusion"\nboxes = [4, 8]'


def pretrained_text(
    *, task: str = FUSION, strategy: str = 'kind = "fedavg"', keys: str = "", start: str = ""
) -> str:
    """The tiny study's text with a pretrain stage before its finetune stage.

    Args:
        task: Lines of the pretext task.
        strategy: Lines of the stage's strategy.
        keys: Further keys of the stage.
        start: Keys of the finetune stage's `start`; empty: no such table.
    """
    stage = f"""
[[stages]]
kind = "pretrain"
rounds = 2
steps_per_round = 3
{keys}

[stages.task]
{task}

[stages.strategy]
{strategy}

[stages.training]
optimiser = {{ kind = "adamw", learning_rate = 5e-3 }}
num_threads = 1
"""
    head, finetune = tiny_text().split("[[stages]]")
    begin = f"\n[stages.start]\n{start}\n" if start else ""
    return f"{head}{stage}\n[[stages]]{finetune.replace('[evaluation]', begin + '[evaluation]')}"


def pretrained_study(
    *, task: str = FUSION, strategy: str = 'kind = "fedavg"', keys: str = "", start: str = ""
) -> Study:
    """The same, parsed."""
    text = pretrained_text(task=task, strategy=strategy, keys=keys, start=start)
    return parse_study(text, where="tiny.toml")
