"""What a study does with weights and labels, in words, for whoever is asked and for the report."""

from fedvol.config.data import FewLabels
from fedvol.config.strategy import Finetune, Personalise, Pretrain, Stage, Start, Travels

_STAYS: dict[Travels, str] = {
    "whole": "",
    "all_but_norms": "norm layers stay at their site",
    "all_but_heads": "heads stay at their site",
    "encoder": "stem and encoder alone travel",
}


def weights_words(stage: Stage) -> str:
    """What of a pretraining stays at the sites, what it reads labels for; how finetuning starts.

    Args:
        stage: Any stage.

    Returns:
        The words; empty where there is nothing to say.
    """
    match stage:
        case Pretrain():
            return ", ".join(filter(None, (_STAYS[stage.exchange], _probe_words(stage))))
        case Finetune():
            return "" if stage.start is None else _start_words(stage.start)
        case Personalise():
            return ""


def _probe_words(stage: Pretrain) -> str:
    if stage.probe is None:
        return ""
    every, steps = stage.probe.every, stage.probe.steps
    return (
        f"labels read after every {'round' if every == 1 else f'{every} rounds'} (heads trained on "
        f"them for {steps} steps and dropped, only their Dice told)"
    )


def labels_words(few: FewLabels, *, site: str) -> str:
    """Of how many patients a site's training labels are read, where a study does without most.

    Args:
        few: What the study says.
        site: The site.
    """
    held = few.subjects if isinstance(few.subjects, int) else few.subjects.get(site, 0)
    if not held:
        return "no training label is read: to this study your training cases are unlabelled"
    patients = "1 training patient" if held == 1 else f"{held} training patients"
    return f"labels of {patients} at most are read; to this study the others are unlabelled"


def _start_words(start: Start) -> str:
    words = [f"from the pretrained {'encoder' if start.parts == 'encoder' else 'network'}"]
    if start.frozen == "all_but_heads":
        words.append("the heads alone learn")
    elif start.frozen == "encoder":
        words.append("which stays as it is" if start.parts == "encoder" else "encoder frozen")
    if start.heads_first_rounds:
        first = start.heads_first_rounds
        words.append(f"heads alone in the first {'round' if first == 1 else f'{first} rounds'}")
    return ", ".join(words)
