"""Which tensors of pretrained weights go into a network, and which do not; arrays alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedvol.config.data import Normalisation
from fedvol.config.name_map import to_own_names
from fedvol.errors import Problem
from fedvol.plan import TensorKind, TensorSpec
from fedvol.plan.adaptation import AdaptationRecord, Transfers, encoder_architecture
from fedvol.types import State

NewStem = Literal["random", "copy", "refuse"]
"""What the stem becomes where the image has other channels than in pretraining."""

_MAX_NAMED = 3
_PARTS: Mapping[TensorKind, str] = {
    TensorKind.STEM: "encoder",
    TensorKind.ENCODER: "encoder",
    TensorKind.DECODER: "decoder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """What became of every tensor, by name, with its number of values.

    Attributes:
        loaded: Taken over as they are.
        reshaped: Of another shape: a stem made for other channels, which was taken over, or
            tensors that were not.
        missing: Asked for, and not in the file; they stay as they were.
        left_out: Not asked for: the head, the decoder where the encoder alone is taken, a stem
            that begins anew.
        unexpected: Tensors of the file, by their names there, that the network does not have.
        shares: Of "encoder", stem included, and of "decoder" where asked for: the share of the
            values that was taken over, a stem that begins anew left out.
    """

    loaded: Mapping[str, int]
    reshaped: Mapping[str, int]
    missing: Mapping[str, int]
    left_out: Mapping[str, int]
    unexpected: Mapping[str, int]
    shares: Mapping[str, float]


@dataclass(slots=True, kw_only=True)
class _Sorting:
    """The report while it is made."""

    taken: dict[str, NDArray[np.generic]] = field(default_factory=dict[str, NDArray[np.generic]])
    loaded: dict[str, int] = field(default_factory=dict[str, int])
    reshaped: dict[str, int] = field(default_factory=dict[str, int])
    missing: dict[str, int] = field(default_factory=dict[str, int])
    left_out: dict[str, int] = field(default_factory=dict[str, int])


def match_state(
    network: Sequence[TensorSpec],
    state: State,
    record: AdaptationRecord,
    *,
    channels: Sequence[str],
    parts: Transfers,
    new_stem: NewStem,
) -> tuple[dict[str, NDArray[np.generic]], TransferReport]:
    """The arrays that a network takes over from pretrained weights.

    Args:
        network: Its tensors, each with the part it lies in, norm layers too.
        state: The pretrained weights, under their names in the file.
        record: What they were trained on.
        channels: Names of the image channels now.
        parts: Whether to take the encoder, or all but the head.
        new_stem: What the stem becomes where the channels are others; "refuse" counts as "random".

    Returns:
        Arrays by the network's names, of its shapes and types; and what became of every tensor.

    Raises:
        NameMapError: Two tensors of the file would have one name.
    """
    renaming = to_own_names(state, record.names)
    has_new_stem = tuple(channels) != record.channels
    sorting = _Sorting()
    for spec in network:
        theirs = renaming.names.get(spec.name)
        is_new = has_new_stem and spec.kind is TensorKind.STEM
        if not _is_wanted(spec, parts):
            if theirs is not None:
                sorting.left_out[spec.name] = spec.size
        elif is_new and new_stem != "copy":
            sorting.left_out[spec.name] = spec.size
        elif theirs is None:
            sorting.missing[spec.name] = spec.size
        else:
            array = state[theirs]
            adapted = array
            if is_new:
                adapted = stem_for_channels(array, before=record.channels, now=channels)
            _sort(spec, array, adapted=adapted, into=sorting)
    own = {spec.name for spec in network}
    strangers = [theirs for name, theirs in renaming.names.items() if name not in own]
    return sorting.taken, TransferReport(
        loaded=sorting.loaded,
        reshaped=sorting.reshaped,
        missing=sorting.missing,
        left_out=sorting.left_out,
        unexpected={name: state[name].size for name in (*renaming.unexpected, *strangers)},
        shares=_shares(network, sorting, parts=parts),
    )


def stem_for_channels(
    weight: NDArray[np.generic], *, before: Sequence[str], now: Sequence[str]
) -> NDArray[np.generic]:
    """The weight of a first convolution for other channels.

    A channel of the same name keeps its weights, a new one has the mean of all. They are scaled by
    the ratio of the numbers, so that what comes out keeps its size.

    Args:
        weight: (feature, channel, ...); anything else, such as a bias, stays as it is.
        before: Names of its channels.
        now: Names of the new ones.
    """
    if weight.ndim < 2 or weight.shape[1] != len(before):
        return weight
    values = weight.astype(np.float64)
    mean = values.mean(axis=1)
    slices = [values[:, before.index(name)] if name in before else mean for name in now]
    return (len(before) / len(now) * np.stack(slices, axis=1)).astype(weight.dtype)


def transfer_problems(
    network: Sequence[TensorSpec],
    record: AdaptationRecord,
    report: TransferReport,
    *,
    channels: Sequence[str],
    normalisation: Normalisation | None,
    parts: Transfers,
    new_stem: NewStem,
    least_share: float,
) -> list[Problem]:
    """Every reason not to go on from pretrained weights.

    Args:
        network: The network's tensors, each with the part it lies in.
        record: What the weights were trained on.
        report: What became of every tensor.
        channels: Names of the image channels now.
        normalisation: How intensities are brought to one scale now; None allows any.
        parts: What is taken over.
        new_stem: What the stem becomes where the channels are others.
        least_share: Share of the values of every part asked for that must be taken over.
    """
    problems: list[Problem] = []
    if encoder_architecture(network) != record.architecture:
        problems.append(_wrong("architecture", "the weights are those of another encoder", _SAME))
    if parts == "whole" and record.transfers == "encoder":
        problems.append(
            _wrong("transfers", "the encoder alone was trained", 'Take parts = "encoder".')
        )
    if normalisation is not None and normalisation != record.normalisation:
        problems.append(
            _wrong(
                "normalisation",
                f"intensities were normalised by {record.normalisation}, and now by "
                f"{normalisation}",
                "Use the normalisation of pretraining, or allow another one.",
            )
        )
    if new_stem == "refuse" and tuple(channels) != record.channels:
        problems.append(
            _wrong(
                "channels",
                f"the channels were {', '.join(record.channels)}, and now are "
                f"{', '.join(channels)}",
                'Begin with a new stem ("random"), or with the old one adapted ("copy").',
            )
        )
    for part, share in report.shares.items():
        if share < least_share:
            problems.append(_too_little(part, share, report, least_share=least_share))
    return problems


_SAME = "Use the network of pretraining."


def _too_little(part: str, share: float, report: TransferReport, *, least_share: float) -> Problem:
    absent = [*report.missing, *report.reshaped]
    named = ", ".join(absent[:_MAX_NAMED]) + (", ..." if len(absent) > _MAX_NAMED else "")
    return _wrong(
        part,
        f"{100 * share:.1f} % of its values were found, less than {100 * least_share:g} %; missing "
        f"or of another shape: {named}",
        "Mend the name map, or use the network of pretraining.",
    )


def _wrong(where: str, what: str, fix: str) -> Problem:
    return Problem(where=where, what=what, fix=fix)


def _sort(
    spec: TensorSpec,
    array: NDArray[np.generic],
    *,
    adapted: NDArray[np.generic],
    into: _Sorting,
) -> None:
    is_reshaped = array.shape != spec.shape
    (into.reshaped if is_reshaped else into.loaded)[spec.name] = spec.size
    if adapted.shape == spec.shape:
        into.taken[spec.name] = adapted.astype(spec.dtype, copy=False)


def _is_wanted(spec: TensorSpec, parts: Transfers) -> bool:
    part = _PARTS.get(spec.kind)
    return part == "encoder" or (part == "decoder" and parts == "whole")


def _shares(
    network: Sequence[TensorSpec], sorting: _Sorting, *, parts: Transfers
) -> dict[str, float]:
    total: dict[str, int] = {}
    taken: dict[str, int] = {}
    for spec in network:
        if not _is_wanted(spec, parts) or spec.name in sorting.left_out:
            continue
        part = _PARTS[spec.kind]
        total[part] = total.get(part, 0) + spec.size
        taken[part] = taken.get(part, 0) + spec.size * (spec.name in sorting.taken)
    return {part: taken[part] / values for part, values in total.items()}
