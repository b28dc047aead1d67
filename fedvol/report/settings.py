"""The plan's main settings in words, for the page and the card."""

import json
from typing import assert_never

from fedvol.config import strategy
from fedvol.config.data import (
    ColumnSplit,
    FewLabels,
    FoldSplit,
    HashSplit,
    Normalisation,
    Split,
    Window,
    ZScore,
)
from fedvol.config.stage_words import weights_words
from fedvol.config.strategy import Stage
from fedvol.plan import Plan, class_names
from fedvol.report.figures import count, number

_ARITHMETIC = {"float32": "float32 (on a GPU TF32 in convolutions)", "bfloat16": "bfloat16"}


def plan_settings(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Name and value of each setting a reader asks for first."""
    study = plan.study
    values = sum(spec.size for spec in plan.network.tensors)
    num_tensors = len(plan.network.tensors)
    evaluation = study.evaluation
    rows = [
        ("Channels", ", ".join(study.data.channels)),
        ("Classes", ", ".join(class_names(study.data))),
        ("Split", split_words(study.data.split)),
        *_few_labels(study.data.few_labels),
        ("Voxel size", f"{_times(study.preprocessing.spacing_mm)} mm"),
        ("Intensities", _normalisation(study.preprocessing.normalisation)),
        (
            "Network",
            f"{study.network.kind}, {values:,} values in {count(num_tensors, 'tensor')}",
        ),
        ("Patch", f"{_times(study.patches.size)} voxels, {study.patches.batch_size} in a batch"),
    ]
    if plan.start is not None:
        start = plan.start
        taken = sum(start.report.loaded.values()) + sum(start.report.adapted.values())
        rows.append(
            (
                "Begins with",
                f"{taken:,} values pretrained by {start.record.task}; file {start.digest[:12]}",
            )
        )
    rows += [(f"Stage {number}", stage_words(s)) for number, s in enumerate(study.stages, start=1)]
    rows += [
        ("Best round by", f"validation {evaluation.select_by}")
        if evaluation.release == "best"
        else ("Released round", "the last, whatever its figures"),
        ("Inference", _inference(evaluation.overlap, study.inference_mirror_axes)),
        ("NSD tolerance", tolerance_words(plan)),
        ("Intervals", f"{evaluation.bootstrap_replicates:,} bootstrap replicates of subjects"),
        ("Seed", str(study.seed)),
    ]
    return tuple(rows)


def planned_choices(plan: Plan) -> tuple[tuple[str, str, str], ...]:
    """Key, value and reason of each value that the study left to planning."""
    if plan.planning is None:
        return ()
    return tuple(
        (choice.key, json.dumps(choice.value, ensure_ascii=False), choice.reason)
        for choice in plan.planning.choices
    )


def stage_words(stage: Stage) -> str:
    """Strategy or method, rounds, steps and optimiser of a stage."""
    optimiser = stage.training.optimiser
    match stage:
        case strategy.Pretrain():
            how = f"{stage.task.kind}, {strategy_words(stage.strategy)}"
        case strategy.Finetune():
            how = strategy_words(stage.strategy)
        case strategy.Personalise():
            how = personal_words(stage.method)
        case _:
            assert_never(stage)
    weights = weights_words(stage)
    return (
        f"{stage.kind} by {how}, {f'{weights}, ' if weights else ''}"
        f"{stage.rounds} rounds of {stage.steps_per_round} gradient steps at each site, "
        f"{optimiser.kind} at learning rate {optimiser.learning_rate:g}, "
        f"{_ARITHMETIC[stage.training.precision]}{', compiled' if stage.training.compile else ''}"
    )


def personal_words(method: strategy.PersonalMethod) -> str:
    """How personal models are trained, with its values."""
    match method:
        case strategy.Ditto():
            return f"Ditto (lambda {method.pull:g} towards the released model)"
        case strategy.LocalFinetune():
            part = {
                "all": "every tensor",
                "norms": "norm layers alone",
                "head": "outputs alone",
                "decoder": "decoder and outputs without norm layers",
            }[method.parts]
            return f"local training from the released model ({part})"
        case _:
            assert_never(method)


def strategy_words(settings: strategy.Strategy) -> str:
    """A strategy's name with its values."""
    match settings:
        case strategy.FedAvg():
            name, values = "FedAvg", ()
        case strategy.FedBN():
            name, values = "FedBN", ("norm layers stay at their site",)
        case strategy.Scaffold():
            name, values = "SCAFFOLD", ("control variates of every trained tensor",)
        case strategy.FedProx():
            name, values = "FedProx", (f"mu {settings.mu:g}",)
        case strategy.AdaptiveFedProx():
            name = "adaptive FedProx"
            values = (
                f"mu from {settings.mu:g} in steps of {settings.mu_step:g}",
                f"down after {count(settings.falling_rounds, 'falling round')}",
            )
        case strategy.FedAvgM():
            name = "FedAvgM"
            values = (f"momentum {settings.momentum:g}", _server_rate(settings))
        case strategy.FedAdam() | strategy.FedYogi():
            name = "FedAdam" if isinstance(settings, strategy.FedAdam) else "FedYogi"
            betas = " and ".join(f"{beta:g}" for beta in settings.betas)
            values = (f"betas {betas}", f"tau {settings.tau:g}", _server_rate(settings))
        case _:
            assert_never(settings)
    weights = {"cases": "weights by cases", "equal": "every site weighs the same"}
    return f"{name} ({', '.join((*values, weights[settings.weighting]))})"


def _server_rate(settings: strategy.FedAvgM | strategy.FedAdam | strategy.FedYogi) -> str:
    return f"server learning rate {settings.server_learning_rate:g}"


def tolerance_words(plan: Plan) -> str:
    """The distance within which NSD counts surfaces as agreeing."""
    tolerance = plan.study.evaluation.nsd_tolerance_mm
    if not isinstance(tolerance, dict):
        return f"{tolerance:g} mm"
    return ", ".join(f"{name} {value:g} mm" for name, value in sorted(tolerance.items()))


def split_words(split: Split) -> str:
    """How subjects were divided."""
    match split:
        case FoldSplit():
            return (
                f"fold {split.test} is the test set, fold {split.validation} validates, "
                "all others train"
            )
        case ColumnSplit():
            return "by the split column of the case table"
        case HashSplit():
            return (
                f"by a salted hash of the subject: {split.test_share:.0%} test, "
                f"{split.validation_share:.0%} validation"
            )
        case _:
            assert_never(split)


def _few_labels(few: FewLabels | None) -> list[tuple[str, str]]:
    if few is None:
        return []
    if isinstance(few.subjects, int):
        kept = f"of {count(few.subjects, 'subject')} at each site"
    else:
        each = ", ".join(f"{count(n, 'subject')} at {site}" for site, n in few.subjects.items())
        kept = f"of {each}, none elsewhere"
    return [("Training labels", f"{kept}, drawn with seed {few.seed}; the others were not read")]


def _normalisation(normalisation: Normalisation) -> str:
    if isinstance(normalisation, ZScore):
        where = "above the minimum" if normalisation.foreground_only else "everywhere"
        return f"z-score of each channel and volume, over voxels {where}"
    if isinstance(normalisation, Window):
        low, high = normalisation.window_hu
        return f"window {number(low, decimals=0)} to {number(high, decimals=0)} HU"
    low, high = normalisation.clip_hu
    return (
        f"clipped to {number(low, decimals=0)} to {number(high, decimals=0)} HU, then minus "
        f"{normalisation.mean_hu:g} HU and divided by {normalisation.deviation_hu:g} HU"
    )


def _inference(overlap: float, mirror_axes: tuple[int, ...]) -> str:
    mirrored = f"mirrored over {len(mirror_axes)} axes" if mirror_axes else "not mirrored"
    return f"sliding window, overlap {overlap:.0%}, {mirrored}"


def _times(values: tuple[float, ...] | tuple[int, ...]) -> str:
    return " × ".join(f"{value:g}" for value in values)
