"""The tiny study with a pretraining before it."""

from pathlib import Path

from tiny import tiny_text

from fedvol.config import Study
from fedvol.config.loading import parse_study
from fedvol.models import build_network, describe_parts, to_arrays
from fedvol.plan import AdaptationRecord, encoder_architecture, num_classes
from fedvol.store import write_state

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


def started_text(file: Path | str, *, start: str = "", terms: str = "", strategy: str = "") -> str:
    """The tiny study's text, its finetuning started from a file of pretrained weights.

    Args:
        file: The file.
        start: Further keys of the stage's `start`.
        terms: Further keys of its `weights`.
        strategy: Lines in place of the strategy's.
    """
    begin = f'[stages.start]\n{start}\n\n[stages.start.weights]\nfile = "{file}"\n{terms}\n\n'
    return tiny_text(strategy=strategy).replace("[evaluation]", begin + "[evaluation]")


def write_weights(path: Path, *, like: Study) -> Path:
    """A file of pretrained weights for the network of a study, with their record."""
    net = build_network(
        like.network,
        in_channels=len(like.data.channels),
        num_classes=num_classes(like.data),
        patch=like.patches.size,
        seed=99,
    )
    record = AdaptationRecord(
        architecture=encoder_architecture(describe_parts(net)),
        task="volume_fusion",
        transfers="whole",
        channels=like.data.channels,
        patch=like.patches.size,
        spacing_mm=like.preprocessing.spacing_mm,
        normalisation=like.preprocessing.normalisation,
    )
    write_state(path, to_arrays(net).items(), metadata=record.metadata())
    return path
