"""Runs that would pretrain alike: one of them does, the others begin with its weights."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from fedvol.config import OpenStudy
from fedvol.config.changes import changed
from fedvol.config.loading import parse_open_study, parse_toml
from fedvol.config.strategy import FedBN
from fedvol.plan import digest_json
from fedvol.simulation.sweep.design import SweepRun, variant_name
from fedvol.simulation.sweep.folder import SweepFolder
from fedvol.types import Digest

_BESIDE_IT = {"name", "purpose", "task", "stages", "evaluation"}
"""Keys of a study that do not matter to its pretraining."""


def share_pretraining(
    runs: Sequence[SweepRun], *, folder: SweepFolder, where: Path
) -> tuple[SweepRun, ...]:
    """The same runs, of which those that would pretrain alike begin with the file of one of them.

    It is the first, or the first that was begun so: a sweep that grows keeps its pretraining.
    Only what travels whole is in the file, so pretraining that keeps tensors at the sites is not
    shared.

    Args:
        runs: The runs, in the order in which they begin.
        folder: Where they are carried out.
        where: Path of the study that they vary, for messages.
    """
    alike: dict[Digest, list[SweepRun]] = {}
    for run in runs:
        if (key := _pretraining(run.study)) is not None:
            alike.setdefault(key, []).append(run)
    leaders = {
        run.name: next((one for one in group if folder.is_begun(one)), group[0])
        for group in alike.values()
        for run in group
    }
    return tuple(
        run
        if (leader := leaders.get(run.name, run)) is run
        else _follower(run, leader, folder=folder, where=where)
        for run in runs
    )


def _pretraining(study: OpenStudy) -> Digest | None:
    """What a study's pretraining is; None where it has none, or none that can be shared."""
    stage = study.pretrain
    if stage is None or stage.exchange != "whole" or isinstance(stage.strategy, FedBN):
        return None
    rest = study.model_dump(mode="json", exclude={*_BESIDE_IT, "data"})
    # Patches, spacing and network that are still to be planned follow from the labelled cases.
    beside = set[str]() if study.open_keys else {"few_labels"}
    data = study.data.model_dump(mode="json", exclude=beside)
    return digest_json([rest, data, stage.model_dump(mode="json")])


def _follower(run: SweepRun, leader: SweepRun, *, folder: SweepFolder, where: Path) -> SweepRun:
    stage = run.study.pretrain
    assert stage is not None
    file = os.path.relpath(folder.run(leader).pretrained, folder.study_of(run).parent)
    start: dict[str, Any] = {"weights": {"file": file, "least_share": 0.0}}
    if not stage.task.trains_decoder:
        start["parts"] = "encoder"
    document = parse_toml(run.text, where=str(where))
    document["stages"] = [one for one in document["stages"] if one["kind"] != "pretrain"]
    text = tomli_w.dumps(changed(document, {"stages": {"finetune": {"start": start}}}))
    study = parse_open_study(text, where=f"{where}, variant {variant_name(run.variant)}")
    return replace(run, text=text, study=study, pretrained_by=leader.name)
