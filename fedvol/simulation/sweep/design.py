"""The runs of a sweep: every variant with every seed, each with a study file of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fedvol.config import OpenStudy
from fedvol.config.changes import changed
from fedvol.config.loading import parse_open_study, parse_toml
from fedvol.config.sweep import Sweep, Variant
from fedvol.config.weights import with_absolute_file
from fedvol.errors import Problem, SweepError


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRun:
    """One variant with one seed.

    Attributes:
        variant: A value of each axis.
        seed: The seed.
        text: Its study file.
        study: The same, read.
        pretrain_steps: Gradient steps of each site in the pretraining behind it, its own or shared.
        pretrained_by: Name of the run whose pretrained weights it begins with; empty: of none.
    """

    variant: Variant
    seed: int
    text: str
    study: OpenStudy
    pretrain_steps: int
    pretrained_by: str = ""

    @property
    def name(self) -> str:
        """Names it in messages and is its path below the folder of runs."""
        return f"{variant_name(self.variant)}/seed-{self.seed}"


def variant_name(variant: Variant) -> str:
    """The values of a variant, such as `6/volume_fusion`."""
    return "/".join(variant.values())


def sweep_runs(sweep: Sweep, study: str, *, where: Path) -> tuple[SweepRun, ...]:
    """Every run, seed by seed, so that an interrupted sweep has whole tables of fewer seeds.

    Args:
        sweep: What varies.
        study: The study file that it varies, as text.
        where: Path of that file, for messages.

    Raises:
        ConfigFileError: The study is not TOML.
        StudyError: A variant is no valid study; carries every problem of it.
        SweepError: The variants cannot be compared; carries every reason.
    """
    document = parse_toml(study, where=str(where))
    runs = [
        _run(sweep, document, variant=variant, seed=seed, where=where)
        for seed in sweep.seeds
        for variant in sweep.variants()
    ]
    if found := [*_not_comparable(sweep, runs)]:
        raise SweepError(str(where), found)
    return tuple(runs)


def steps(study: OpenStudy, *, pretraining: bool) -> int:
    """Gradient steps of each site in the pretrain stage, or in all other stages."""
    return sum(
        stage.rounds * stage.steps_per_round
        for stage in study.stages
        if (stage.kind == "pretrain") == pretraining
    )


def _run(
    sweep: Sweep, document: dict[str, Any], *, variant: Variant, seed: int, where: Path
) -> SweepRun:
    for changes in sweep.changes(variant):
        document = changed(document, changes)
    document = changed(document, {"seed": seed})
    if "few_labels" in document.get("data", {}):
        document = changed(document, {"data": {"few_labels": {"seed": seed}}})
    text = tomli_w.dumps(with_absolute_file(document, folder=where.parent))
    study = parse_open_study(text, where=f"{where}, variant {variant_name(variant)}")
    return SweepRun(
        variant=variant,
        seed=seed,
        text=text,
        study=study,
        pretrain_steps=steps(study, pretraining=True),
    )


def _not_comparable(sweep: Sweep, runs: Sequence[SweepRun]) -> Iterator[Problem]:
    budgets: dict[int, str] = {}
    for run in runs:
        budget = steps(run.study, pretraining=False)
        if sweep.equal == "all":
            budget += steps(run.study, pretraining=True)
        budgets.setdefault(budget, variant_name(run.variant))
    if len(budgets) > 1:
        each = ", ".join(f"{name} has {budget}" for budget, name in budgets.items())
        what = "outside pretraining" if sweep.equal == "finetune" else "in all stages"
        yield Problem(
            where="axes",
            what=f"sites take different numbers of steps {what}: {each}",
            fix="Change rounds or steps_per_round, so that all variants have the same.",
        )
    for name in dict.fromkeys(variant_name(run.variant) for run in runs):
        (study, *_) = (run.study for run in runs if variant_name(run.variant) == name)
        if sweep.metric not in study.evaluation.metrics:
            yield Problem(
                where="metric",
                what=f"the study of {name} does not report {sweep.metric} on test cases",
                fix=f"Name one of {', '.join(study.evaluation.metrics)}.",
            )
    splits = {run.study.data.split.model_dump_json() for run in runs}
    if len(splits) > 1:
        yield Problem(
            where="axes",
            what="the variants are not judged on the same test cases",
            fix="Leave data.split alone.",
        )
