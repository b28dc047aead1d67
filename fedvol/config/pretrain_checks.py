"""What a pretrain stage asks of the rest of a study."""

from collections.abc import Iterator
from typing import assert_never

from fedvol.config.data import Patches, Preprocessing
from fedvol.config.network_checks import network_on_patches
from fedvol.config.open_study import OpenPatches, OpenPreprocessing
from fedvol.config.pretext import (
    MaskedAutoencoder,
    MaskedTokens,
    ModelsGenesis,
    RotationPrediction,
    SparkMAE,
    VoCo,
    VolumeFusion,
)
from fedvol.config.pretext_checks import (
    AnyNetwork,
    mae_on,
    mae_vit_on,
    models_genesis_on,
    rotation_on,
    s3d_on,
    voco_on,
    volume_fusion_on,
)
from fedvol.config.strategy import Pretrain, Stage
from fedvol.errors import Problem


def pretraining(
    stages: tuple[Stage, ...],
    network: AnyNetwork,
    patches: Patches | OpenPatches,
    preprocessing: Preprocessing | OpenPreprocessing,
) -> Iterator[Problem]:
    """The task must be able to train the network on these patches.

    What is left to planning is checked once it is planned.
    """
    for index, stage in enumerate(stages):
        if not isinstance(stage, Pretrain):
            continue
        where = f"stages[{index}]"
        own = {"augmentation"} if stage.patches is None else {"augmentation", "patches"}
        for problem in _of_stage(stage, where, network, patches, preprocessing):
            is_own = problem.where.partition(".")[0] in own
            place = f"{where}.{problem.where}" if is_own else problem.where
            yield Problem(where=place, what=problem.what, fix=problem.fix)


def _of_stage(
    stage: Pretrain,
    where: str,
    network: AnyNetwork,
    patches: Patches | OpenPatches,
    preprocessing: Preprocessing | OpenPreprocessing,
) -> Iterator[Problem]:
    """The same of one stage, its own patches and changes named as the study's are."""
    if stage.patches is not None:
        own = Patches(size=stage.patches.size, batch_size=stage.patches.batch_size)
        yield from network_on_patches(network, own)
    size = patches.size if stage.patches is None else stage.patches.size
    if size is not None:
        task, key = stage.task, f"{where}.task"
        match task:
            case VolumeFusion():
                yield from volume_fusion_on(task, where=key, patch=size, network=network)
            case ModelsGenesis():
                yield from models_genesis_on(task, where=key, patch=size, network=network)
            case MaskedAutoencoder():
                yield from mae_on(task, where=key, patch=size, network=network)
            case MaskedTokens():
                yield from mae_vit_on(task, where=key, patch=size, network=network)
                if stage.patches is not None and patches.size not in (None, size):
                    yield Problem(
                        where="patches.size",
                        what=f"tokens of {list(size)} voxels lie elsewhere than those of a "
                        f"finetuning on {list(patches.size or ())}, so that their places could not "
                        "be taken over",
                        fix="Leave out the patches of the stage, or give the study the same size.",
                    )
            case SparkMAE():
                yield from s3d_on(task, where=key, patch=size, network=network)
            case VoCo():
                yield from voco_on(task, where=key, patch=size, network=network)
            case RotationPrediction():
                if preprocessing.spacing_mm is not None:
                    yield from rotation_on(
                        task,
                        where=key,
                        patch=size,
                        spacing_mm=preprocessing.spacing_mm,
                        network=network,
                        mirror_axes=stage.changes.mirror_axes if stage.changes else (),
                    )
            case _:
                assert_never(task)
