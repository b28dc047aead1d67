"""A sweep file: which variants of a study are compared, with which seeds."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import Field, JsonValue

from fedvol.config.base import Section
from fedvol.config.data import Name
from fedvol.config.findings import read_model, suggestion
from fedvol.config.loading import parse_toml, read_text
from fedvol.config.places import key_path
from fedvol.errors import Problem, SweepError

Variant = Mapping[str, str]
"""One value of each axis."""

Changes = dict[str, JsonValue]


@final
class Target(Section):
    """What a variant must reach on validation cases, to say after how many steps it does."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the reference's figure; where lower is better, the figure is divided by it."""
    of: Annotated[dict[Name, Name], Field(min_length=1)]
    """The reference: a value of every axis. Its figure is that of its last round, mean over the
    seeds."""


@final
class Sweep(Section):
    """Variants of one study, every combination of the axes' values, each with every seed."""

    version: Literal[1]
    """Version of this schema."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1, max_length=100)
    ] = (0,)
    """Seeds of each variant: `seed` of the study, and of `data.few_labels` where it has that."""
    metric: str = "dice"
    """What is compared on test cases: a metric of `evaluation.metrics`."""
    equal: Literal["finetune", "all"] = "finetune"
    """Steps of each site that must be the same in every variant: those of all stages but
    pretraining, or of all stages."""
    share_pretraining: bool = True
    """Whether variants that would pretrain alike do so once: the first of them pretrains, the
    others begin with its weights. Labels are nothing to pretraining."""
    axes: Annotated[
        dict[Name, Annotated[dict[Name, Changes], Field(min_length=1)]],
        Field(min_length=1, max_length=4),
    ]
    """What varies: for each axis its values by name, each with the study's keys that it changes.
    Tables are changed key by key; `stages.pretrain` and the like are the stages of that kind."""
    baseline: dict[Name, Name] = Field(default_factory=dict)
    """What each variant is compared with: the one that has these values, and its own on the other
    axes."""
    target: Target | None = None
    """Counts the steps to a figure; left out: they are not counted."""

    def variants(self) -> Iterator[Variant]:
        """Every combination, the last axis fastest."""
        for values in product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def changes(self, variant: Variant) -> Iterator[Changes]:
        """What a variant changes, axis by axis."""
        for axis, value in variant.items():
            yield self.axes[axis][value]

    def baseline_of(self, variant: Variant) -> Variant | None:
        """What a variant is compared with; None for a baseline itself, and where there is none."""
        other = {**variant, **self.baseline}
        return None if other == variant else other


def load_sweep(path: Path) -> Sweep:
    """Read and check a sweep file; the studies of its variants are not looked at.

    Raises:
        ConfigFileError: The file is absent, no file, too large, not UTF-8 or not TOML.
        SweepError: It breaks its schema or names values that are not there; carries every problem.
    """
    return parse_sweep(read_text(path), where=str(path))


def parse_sweep(text: str, *, where: str) -> Sweep:
    """Read and check a sweep given as TOML text.

    Args:
        text: The TOML document.
        where: How messages call it, normally the file's path.

    Raises:
        ConfigFileError: The text is not TOML.
        SweepError: It breaks its schema or names values that are not there; carries every problem.
    """
    read = read_model(parse_toml(text, where=where), Sweep)
    if read.value is None:
        raise SweepError(where, read.problems)
    if found := [*read.problems, *_problems(read.value)]:
        raise SweepError(where, found)
    return read.value


def _problems(sweep: Sweep) -> Iterator[Problem]:
    for index, seed in enumerate(sweep.seeds):
        if seed in sweep.seeds[:index]:
            yield Problem(
                where=f"seeds[{index}]", what=f"{seed} is listed twice", fix="List it once."
            )
    yield from _unknown("baseline", sweep.baseline, axes=sweep.axes)
    if sweep.target is not None:
        yield from _unknown("target.of", sweep.target.of, axes=sweep.axes)
        for axis in sweep.axes.keys() - sweep.target.of.keys():
            yield Problem(
                where="target.of",
                what=f"it names no value of the axis {axis}",
                fix="Name one of each axis.",
            )


def _unknown(
    where: str, named: Mapping[str, str], *, axes: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    for axis, value in named.items():
        if axis not in axes:
            yield Problem(
                where=key_path((*where.split("."), axis)),
                what="there is no such axis",
                fix=suggestion(axis, axes),
            )
        elif value not in axes[axis]:
            yield Problem(
                where=key_path((*where.split("."), axis)),
                what=f"{value} is no value of this axis",
                fix=suggestion(value, axes[axis]),
            )
