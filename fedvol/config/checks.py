"""What a study's keys must be to each other; the schema alone sees each key by itself."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from fedvol.config.data import (
    Augmentation,
    ClipZScore,
    DataRequirement,
    FoldSplit,
    HashSplit,
    Preprocessing,
    Window,
)
from fedvol.config.evaluation import Evaluation
from fedvol.config.findings import suggestion
from fedvol.config.learning import Task
from fedvol.config.losses import DiceCE, DiceFocal, Tversky
from fedvol.config.network_checks import (
    network_alone,
    network_on_data,
    network_on_patches,
    network_on_task,
)
from fedvol.config.open_study import (
    OpenPatches,
    OpenPreprocessing,
    OpenStudy,
    Planning,
    is_ct,
)
from fedvol.config.places import key_path
from fedvol.config.pretrain_checks import pretraining
from fedvol.config.stage_checks import stages_alone, stages_on_network
from fedvol.config.study import Study
from fedvol.errors import Problem

RESERVED_CLASSES = ("overall", "background")
"""Words that results use beside class names."""


def problems(study: Study | OpenStudy) -> list[Problem]:
    """Every contradiction inside a study that passes its schema, as far as its values are fixed."""
    sections = type(study).model_fields
    return problems_of_sections({name: getattr(study, name) for name in sections})


def problems_of_sections(sections: Mapping[str, Any]) -> list[Problem]:
    """The same for a part of a study: each check runs if the sections it reads are there.

    Args:
        sections: Values of a study's own fields, by name.
    """
    found: list[Problem] = []
    for check in _CHECKS:
        if all(name in sections for name in check.reads):
            found += check.run(*(sections[name] for name in check.reads))
    return found


def _data(data: DataRequirement) -> Iterator[Problem]:
    yield from _repeated("data.channels", data.channels)
    for value, names in _classes_by_value(data).items():
        if len(names) > 1:
            yield Problem(
                where="data.labels",
                what=f"{' and '.join(names)} share the value {value}",
                fix="Give each class a value of its own.",
            )
    for name in data.labels:
        if name.lower() in RESERVED_CLASSES:
            yield Problem(
                where=key_path(("data", "labels", name)),
                what=f"{name} is a word of the results, not a class",
                fix="Name the class after its structure; background is 0 and needs no name.",
            )
    match data.split:
        case FoldSplit(test=test, validation=validation) if test == validation:
            yield Problem(
                where="data.split.validation",
                what=f"fold {test} is the test fold too",
                fix="Choose another fold for validation: test cases select nothing.",
            )
        case HashSplit() as split if split.test_share + split.validation_share >= 1:
            yield Problem(
                where="data.split",
                what=f"test_share {split.test_share:g} and validation_share "
                f"{split.validation_share:g} leave no subject to train on",
                fix="Make their sum smaller than 1.",
            )
        case _:
            pass


def _preprocessing(preprocessing: Preprocessing | OpenPreprocessing) -> Iterator[Problem]:
    match preprocessing.normalisation:
        case (Window(window_hu=(lower, upper)) | ClipZScore(clip_hu=(lower, upper))) as scheme if (
            lower >= upper
        ):
            name = "window_hu" if isinstance(scheme, Window) else "clip_hu"
            yield Problem(
                where=f"preprocessing.normalisation.{name}",
                what=f"the lower bound {lower:g} is not below the upper bound {upper:g}",
                fix="Write the lower bound first.",
            )
        case _:
            pass


def _augmentation(augmentation: Augmentation) -> Iterator[Problem]:
    for name in ("scale", "blur_sigma", "brightness", "contrast", "low_resolution", "gamma"):
        low, high = cast(tuple[float, float], getattr(augmentation, name))
        where = f"augmentation.{name}"
        if low > high:
            yield Problem(
                where=where,
                what=f"the range runs from {low:g} down to {high:g}",
                fix="Write the smaller value first.",
            )
        if min(low, high) <= 0:
            yield Problem(
                where=where,
                what=f"{min(low, high):g} is not above 0",
                fix="Use values above 0; to switch it off set its probability to 0.",
            )
        if name == "low_resolution" and max(low, high) > 1:
            yield Problem(
                where=where,
                what=f"{max(low, high):g} is above 1 and would add voxels",
                fix="Use factors up to 1.",
            )
    yield from _repeated("augmentation.mirror_axes", augmentation.mirror_axes)


def _normalisation_of_channels(
    preprocessing: Preprocessing | OpenPreprocessing, data: DataRequirement
) -> Iterator[Problem]:
    ct = [name for name in data.channels if is_ct(name)]
    if preprocessing.normalisation is None and 0 < len(ct) < len(data.channels):
        yield Problem(
            where="preprocessing.normalisation",
            what=f"{', '.join(ct)} is CT and the other channels are not, so no single scheme can "
            "be planned for all",
            fix="Write the normalisation into the study.",
        )


def _planning(planning: Planning, patches: OpenPatches) -> Iterator[Problem]:
    if planning.model_fields_set and patches.size is not None and patches.batch_size is not None:
        yield Problem(
            where="planning.memory_gib",
            what="it has no effect, because patches.size and patches.batch_size are both fixed",
            fix="Remove it, or leave one of the two to planning.",
        )


def _task(task: Task) -> Iterator[Problem]:
    match task.loss:
        case DiceCE(dice_weight=0, cross_entropy_weight=0):
            keys = "dice_weight and cross_entropy_weight"
        case DiceFocal(dice_weight=0, focal_weight=0):
            keys = "dice_weight and focal_weight"
        case Tversky(alpha=0, beta=0):
            keys = "alpha and beta"
        case _:
            return
    yield Problem(
        where="task.loss",
        what=f"{keys} are both 0, so nothing is learned",
        fix="Give at least one of them a weight above 0.",
    )


def _evaluation(evaluation: Evaluation) -> Iterator[Problem]:
    yield from _repeated("evaluation.metrics", evaluation.metrics)
    yield from _repeated("evaluation.mirror_axes", evaluation.mirror_axes or ())
    written = evaluation.model_fields_set
    if "nsd_tolerance_mm" in written and "nsd" not in evaluation.metrics:
        yield Problem(
            where="evaluation.nsd_tolerance_mm",
            what="it has no effect, because nsd is not among evaluation.metrics",
            fix='Add "nsd" to the metrics or remove the tolerance.',
        )


def _mirroring(evaluation: Evaluation, augmentation: Augmentation) -> Iterator[Problem]:
    trained = augmentation.mirror_axes
    axes = evaluation.test_mirror_axes(augmentation)
    unseen = sorted(set(axes) - set(trained))
    if unseen:
        yield Problem(
            where="evaluation.mirror_axes",
            what=f"axis {unseen[0]} is not mirrored in training, so the network has never seen "
            "such an image",
            fix="Leave the key out to mirror as in training, or add the axis to "
            "augmentation.mirror_axes.",
        )
    if evaluation.validation_mirror and not axes:
        yield Problem(
            where="evaluation.validation_mirror",
            what="it has no effect, because no axis is mirrored",
            fix="Name the axes in evaluation.mirror_axes, or set it to false.",
        )


def _evaluation_on_data(evaluation: Evaluation, data: DataRequirement) -> Iterator[Problem]:
    metrics, classes = list(dict.fromkeys(evaluation.metrics)), list(data.labels)
    metric, slash, name = evaluation.select_by.partition("/")
    if metric not in metrics or (slash and name not in classes):
        known = metrics + [f"{metric}/{name}" for metric in metrics for name in classes]
        yield Problem(
            where="evaluation.select_by",
            what=f"{evaluation.select_by} is no metric of evaluation.metrics, nor one of them "
            "with a class of data.labels",
            fix=suggestion(evaluation.select_by, known),
        )
    if isinstance(evaluation.nsd_tolerance_mm, dict):
        for name in evaluation.nsd_tolerance_mm:
            if name not in classes:
                yield Problem(
                    where=key_path(("evaluation", "nsd_tolerance_mm", name)),
                    what=f"{name} is no class of data.labels",
                    fix=suggestion(name, classes),
                )
        for name in classes:
            if name not in evaluation.nsd_tolerance_mm:
                yield Problem(
                    where=key_path(("evaluation", "nsd_tolerance_mm", name)),
                    what="this class has no tolerance",
                    fix="Add it, in millimetres, or give one number for all classes.",
                )


def _classes_by_value(data: DataRequirement) -> dict[int, list[str]]:
    classes: dict[int, list[str]] = {}
    for name, value in data.labels.items():
        classes.setdefault(value, []).append(name)
    return classes


def _repeated(where: str, values: Iterable[str | int]) -> Iterator[Problem]:
    for value, times in Counter(values).items():
        if times > 1:
            yield Problem(where=where, what=f"{value} is listed twice", fix="List it once.")


class _Check(NamedTuple):
    reads: tuple[str, ...]
    run: Callable[..., Iterator[Problem]]


_CHECKS = (
    _Check(("data",), _data),
    _Check(("preprocessing",), _preprocessing),
    _Check(("preprocessing", "data"), _normalisation_of_channels),
    _Check(("augmentation",), _augmentation),
    _Check(("network",), network_alone),
    _Check(("network", "patches"), network_on_patches),
    _Check(("network", "data"), network_on_data),
    _Check(("network", "task"), network_on_task),
    _Check(("planning", "patches"), _planning),
    _Check(("task",), _task),
    _Check(("stages",), stages_alone),
    _Check(("stages", "network"), stages_on_network),
    _Check(("stages", "network", "patches", "preprocessing"), pretraining),
    _Check(("evaluation",), _evaluation),
    _Check(("evaluation", "data"), _evaluation_on_data),
    _Check(("evaluation", "augmentation"), _mirroring),
)
