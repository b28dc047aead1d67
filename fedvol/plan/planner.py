"""From an open study and a fingerprint to every open value with its reason: a pure function."""

from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from fedvol.config import OpenStudy, Study, close_study
from fedvol.config.network import ResidualEncoderPreset, ResidualEncoderUNet, UNet
from fedvol.config.open_study import OpenResidualEncoderUNet, PlannedNetwork
from fedvol.plan.choices import AXES, Choice, PlanningRecord, by_axis, plain_number
from fedvol.plan.fingerprint import Fingerprint, merge_fingerprints
from fedvol.plan.intensity import plan_normalisation
from fedvol.plan.memory import GIB, Precision
from fedvol.plan.names import num_classes
from fedvol.plan.patch import BATCH, SIZE, Fitted, Volumes, fit_batch, fit_patch
from fedvol.plan.spacing import SpacingMm, median_shape, plan_spacing, require_comparable
from fedvol.types import Json, SiteId, Triple


def plan_study(study: OpenStudy, fingerprint: Fingerprint) -> tuple[Study, PlanningRecord]:
    """Give every open value of a study, with its reason.

    Args:
        study: The study as written; something is open in it.
        fingerprint: Of all sites that take part, merged.

    Raises:
        PlanningError: The data do not allow a plan, or not within what the study fixes.
        StudyError: A planned value contradicts one that the study fixes.
    """
    choices = _choices(study, fingerprint)
    values = {choice.key: cast(Json, choice.value) for choice in choices}
    closed = close_study(study, values, where=f"plan of {study.name}")
    return closed, PlanningRecord(fingerprint=fingerprint.digest, choices=choices)


def plan_over_sites(
    study: OpenStudy, parts: Mapping[SiteId, Fingerprint]
) -> tuple[Study, PlanningRecord]:
    """Give every open value of a study from the fingerprints of its sites, with its reason.

    Args:
        study: The study as written; something is open in it.
        parts: Each site's fingerprint.

    Raises:
        PlanningError: As `plan_study`; or a site's voxels are far from those of the others.
        StudyError: A planned value contradicts one that the study fixes.
    """
    closed, record = plan_study(study, merge_fingerprints([*parts.values()]))
    require_comparable(parts, spacing_mm=closed.preprocessing.spacing_mm)
    return closed, record


def _choices(study: OpenStudy, fingerprint: Fingerprint) -> tuple[Choice, ...]:
    wanted = study.open_keys
    choices: list[Choice] = []
    spacing_mm = study.preprocessing.spacing_mm
    if spacing_mm is None:
        spacing = plan_spacing(fingerprint)
        choices.append(spacing)
        spacing_mm = cast(SpacingMm, tuple(cast("list[float]", spacing.value)))
    if study.preprocessing.normalisation is None:
        choices.append(plan_normalisation(fingerprint, channels=study.data.channels))
    if any(key.startswith(("patches.", "network.")) for key in wanted):
        choices += _patch_choices(study, fingerprint, spacing_mm=spacing_mm)
    return tuple(choices)


def _patch_choices(
    study: OpenStudy, fingerprint: Fingerprint, *, spacing_mm: SpacingMm
) -> list[Choice]:
    volumes = Volumes(
        spacing_mm=spacing_mm,
        median=cast(Triple, median_shape(fingerprint, spacing_mm=spacing_mm, key=SIZE)),
        cases=fingerprint.cases,
        num_channels=len(study.data.channels),
        num_classes=num_classes(study.data),
        precision=_widest(study),
    )
    network = study.network
    if isinstance(network, ResidualEncoderPreset):
        explicit = network.explicit().model_dump_json(exclude_none=True)
        network = OpenResidualEncoderUNet.model_validate_json(explicit)
    assert isinstance(network, PlannedNetwork), "checked: the others have their patches fixed"
    fitted = fit_patch(
        network,
        volumes=volumes,
        patch=study.patches.size,
        batch_size=study.patches.batch_size,
        memory_gib=study.planning.memory_gib,
    )
    choices: list[Choice] = []
    if study.patches.size is None:
        reason = _patch_reason(study, fitted, volumes=volumes)
        choices.append(Choice(key=SIZE, value=[*fitted.patch], reason=reason))
    choices += [
        _network_choice(key.partition(".")[2], fitted.network, spacing_mm=spacing_mm)
        for key in study.open_keys
        if key.startswith("network.")
    ]
    if study.patches.batch_size is None:
        batch_size, reason = fit_batch(
            fitted.network,
            patch=fitted.patch,
            volumes=volumes,
            memory_gib=study.planning.memory_gib,
        )
        choices.append(Choice(key=BATCH, value=batch_size, reason=reason))
    return choices


def _widest(study: OpenStudy) -> Precision:
    """The arithmetic that needs the most memory in any stage."""
    precisions = {stage.training.precision for stage in study.stages}
    return "float32" if "float32" in precisions else "bfloat16"


def _patch_reason(study: OpenStudy, fitted: Fitted, *, volumes: Volumes) -> str:
    median = by_axis(volumes.median, decimals=0)
    gib = plain_number(fitted.size_bytes / GIB, decimals=1)
    memory = f"{study.planning.memory_gib:g} GiB"
    batch = f"a batch of {fitted.batch_size}"
    least = "" if study.patches.batch_size else ", the smallest,"
    needs = f"{batch}{least} needs about {gib} of {memory}"
    reason = f"the median volume at this voxel size has {median} voxels; "
    multiples = f"multiples of {by_axis(fitted.multiple_of)}, which the network's strides need"
    if not fitted.shrunk and all(
        side >= whole for side, whole in zip(fitted.patch, volumes.median, strict=True)
    ):
        return reason + f"a patch holds all of it, its sides rounded up to {multiples}; {needs}"
    reason += (
        "a patch begins as a cube in millimetres of 256 × 256 × 256 voxels, cut to that volume, "
    )
    if not fitted.shrunk:
        return reason + f"its sides rounded up to {multiples}; {needs}"
    steps = "step" if fitted.shrunk == 1 else "steps"
    return reason + (
        f"its sides rounded up: {by_axis(fitted.start)}; it was shrunk in {fitted.shrunk} {steps}, "
        "each along the axis where it covered most of that volume, to "
        f"{multiples}, until {needs}"
    )


def _network_choice(
    name: str, network: UNet | ResidualEncoderUNet, *, spacing_mm: SpacingMm
) -> Choice:
    key = f"network.{name}"
    num = len(network.features)
    match name:
        case "features":
            value: JsonValue = [*network.features]
            reason = (
                f"{num} stages: the finest, and one for each time the patch is halved along some "
                "axis; channels double from 32 to at most 320"
            )
        case "strides":
            strides = network.strides or ()
            value = [[*stride] for stride in strides]
            times = [sum(stride[axis] == 2 for stride in strides) for axis in range(3)]
            reason = (
                f"{times[0]}, {times[1]} and {times[2]} halvings along {', '.join(AXES)}: an axis "
                "is halved while it keeps 4 voxels and its voxel edge is below twice the finest, "
                "so that features see about the same distance in all directions"
            )
        case "kernels":
            kernels = network.kernels
            assert kernels, "they were planned"
            value = [[*kernel] for kernel in kernels]
            flat = sum(1 in kernel for kernel in kernels)
            reason = "3 along every axis, because voxel edges differ less than twofold"
            if kernels and flat:
                thick = ", ".join(
                    name for name, side in zip(AXES, kernels[0], strict=True) if side == 1
                )
                few = "stage" if flat == 1 else f"{flat} stages"
                reason = (
                    f"1 along {thick} in the first {few}, where voxel edges "
                    f"({by_axis(spacing_mm)} mm at first) are at least twice the finest, then 3"
                )
        case _:
            assert isinstance(network, ResidualEncoderUNet)
            value = [*network.blocks_per_stage]
            reason = (
                "1, 3, 4, then 6 residual blocks a stage: most where feature maps are small "
                "(nnU-Net's residual encoder)"
            )
    return Choice(key=key, value=value, reason=reason)
