"""From a study's pretrain stage to its task, its network, and what finetuning takes of it."""

from typing import assert_never

from torch import nn

from fedvol.config import Study
from fedvol.config.name_map import NameMap
from fedvol.config.pretext import (
    MaskedAutoencoder,
    MaskedTokens,
    ModelsGenesis,
    PretextTask,
    RotationPrediction,
    SparkMAE,
    VoCo,
    VolumeFusion,
)
from fedvol.config.strategy import Pretrain
from fedvol.models import describe, to_arrays
from fedvol.models.state import describe_parts, parts_of
from fedvol.plan import (
    AdaptationRecord,
    NetworkDescription,
    Pretraining,
    Taken,
    TensorKind,
    derive_seed,
    digest_json,
    encoder_architecture,
    state_digest,
)
from fedvol.ssl.mae import mae_network, mae_task
from fedvol.ssl.mae_vit import mae_vit_network, mae_vit_task, name_in_unetr
from fedvol.ssl.models_genesis import ModelsGenesisTask, models_genesis_network
from fedvol.ssl.networks import BODY
from fedvol.ssl.rotation import RotationTask, rotation_network
from fedvol.ssl.s3d import s3d_network, s3d_task
from fedvol.ssl.task import Pretext
from fedvol.ssl.voco import VoCoTask, voco_network
from fedvol.ssl.volume_fusion import VolumeFusionTask, volume_fusion_network
from fedvol.types import Triple

_BEGINNING = frozenset({TensorKind.STEM, TensorKind.ENCODER})


def build_pretext(task: PretextTask) -> Pretext:
    """The objective of a pretext task."""
    match task:
        case VolumeFusion():
            return VolumeFusionTask(task)
        case ModelsGenesis():
            return ModelsGenesisTask(task)
        case MaskedAutoencoder():
            return mae_task(task)
        case MaskedTokens():
            return mae_vit_task(task)
        case SparkMAE():
            return s3d_task(task)
        case VoCo():
            return VoCoTask(task)
        case RotationPrediction():
            return RotationTask(task)
        case _:
            assert_never(task)


def initial_pretext_network(study: Study, stage: Pretrain) -> nn.Module:
    """The network of a study's pretext task with the weights every site begins with.

    Same study, same bits; nothing else draws from the same random numbers.

    Raises:
        NetworkConfigError: The task cannot train the study's network.
    """
    task, network = stage.task, study.network
    channels, patch = len(study.data.channels), pretext_patch(study, stage)
    seed = derive_seed(digest_json(study.seed), "initial pretext weights")
    match task:
        case VolumeFusion():
            return volume_fusion_network(
                task, network, in_channels=channels, patch=patch, seed=seed
            )
        case ModelsGenesis():
            return models_genesis_network(network, in_channels=channels, patch=patch, seed=seed)
        case MaskedAutoencoder():
            return mae_network(network, in_channels=channels, patch=patch, seed=seed)
        case MaskedTokens():
            return mae_vit_network(task, network, in_channels=channels, patch=patch, seed=seed)
        case SparkMAE():
            return s3d_network(task, network, in_channels=channels, patch=patch, seed=seed)
        case VoCo():
            return voco_network(task, network, in_channels=channels, patch=patch, seed=seed)
        case RotationPrediction():
            return rotation_network(task, network, in_channels=channels, patch=patch, seed=seed)
        case _:
            assert_never(task)


def pretext_patch(study: Study, stage: Pretrain) -> Triple:
    """Voxels along i, j, k of a patch of a pretrain stage."""
    return stage.patches.size if stage.patches is not None else study.patches.size


def pretext_batch_size(study: Study, stage: Pretrain) -> int:
    """Patches of a batch of a pretrain stage, partners not counted."""
    return stage.patches.batch_size if stage.patches is not None else study.patches.batch_size


def describe_pretraining(study: Study, *, pretext: nn.Module, net: nn.Module) -> Pretraining:
    """What is pretrained, and which of its tensors the study's network takes over.

    A tensor is taken over under the same name, less `BODY`, or as `name_in_unetr` says, where shape
    and type agree; heads never are.

    Args:
        study: The study; it has a pretrain stage.
        pretext: The pretext task's network, with its initial weights.
        net: The study's network.
    """
    stage, start = study.pretrain, study.finetune.start_from_pretrained()
    assert stage is not None
    parts = parts_of(pretext)
    tensors = describe(pretext)
    theirs = {spec.name: spec for spec in describe(net)}
    wanted = _BEGINNING if start.parts == "encoder" else frozenset(TensorKind) - {TensorKind.HEAD}
    taken = tuple(
        Taken(source=spec.name, target=target)
        for spec in tensors
        if parts[spec.name] in wanted
        and (target := _name_in_study(stage.task, spec.name)) in theirs
        and (spec.shape, spec.dtype) == (theirs[target].shape, theirs[target].dtype)
    )
    encoder = tuple(name for name, part in parts.items() if part in _BEGINNING)
    return Pretraining(
        network=NetworkDescription(
            tensors=tensors, initial_digest=state_digest(to_arrays(pretext))
        ),
        encoder=encoder,
        heads=tuple(name for name, part in parts.items() if part is TensorKind.HEAD),
        taken=taken,
        record=_record(study, stage, net=net, is_alone=encoder[0].startswith(BODY)),
    )


def _record(study: Study, stage: Pretrain, *, net: nn.Module, is_alone: bool) -> AdaptationRecord:
    """What others must know of the weights; `is_alone`: the task trains no decoder of the study."""
    return AdaptationRecord(
        architecture=encoder_architecture(describe_parts(net)),
        task=stage.task.kind,
        transfers="encoder" if is_alone or stage.exchange == "encoder" else "whole",
        names=NameMap(prefix=BODY) if is_alone else NameMap(),
        channels=study.data.channels,
        patch=pretext_patch(study, stage),
        spacing_mm=study.preprocessing.spacing_mm,
        normalisation=study.preprocessing.normalisation,
    )


def _name_in_study(task: PretextTask, name: str) -> str | None:
    """A tensor's name in the study's network; None where it is in none."""
    return name_in_unetr(name) if isinstance(task, MaskedTokens) else name.removeprefix(BODY)
