"""Which tensors of pretrained weights go into a network, and which do not; arrays alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedvol.config import Study
from fedvol.config.data import Normalisation, Spacing
from fedvol.config.name_map import to_own_names
from fedvol.config.strategy import Frozen, NewStem
from fedvol.errors import Problem
from fedvol.federation.exchange import stage_exchange
from fedvol.plan import NetworkDescription, TensorKind, TensorSpec
from fedvol.plan.adaptation import (
    AdaptationRecord,
    TransferReport,
    Transfers,
    encoder_architecture,
)
from fedvol.types import Digest, State

_MAX_NAMED = 3
_STILL: Mapping[Frozen, frozenset[TensorKind]] = {
    "nothing": frozenset(),
    "encoder": frozenset({TensorKind.STEM, TensorKind.ENCODER}),
    "all_but_heads": frozenset({TensorKind.STEM, TensorKind.ENCODER, TensorKind.DECODER}),
}
_PARTS: Mapping[TensorKind, str] = {
    TensorKind.STEM: "encoder",
    TensorKind.ENCODER: "encoder",
    TensorKind.DECODER: "decoder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferTerms:
    """What a network is to take over, and on which terms.

    Attributes:
        channels: Names of the image channels the network is for.
        normalisation: How its intensities are brought to one scale; None allows any.
        spacing_mm: Its voxels along i, j, k; None allows any.
        parts: The encoder with its stem ("encoder"), or all but the head ("whole").
        new_stem: Where the channels are others than in pretraining: begin with a new stem
            ("random"), with the old one for the new channels ("copy"), or not at all ("refuse").
        least_share: Share of the values of every part asked for that must be taken over.
        stays: Tensors that never leave a site, and so begin there as they would without the file.
        still: Parts that stand still while the rest learns, all of which must be taken over.
    """

    channels: tuple[str, ...]
    normalisation: Normalisation | None
    spacing_mm: Spacing | None = None
    parts: Transfers = "encoder"
    new_stem: NewStem = "refuse"
    least_share: float = 0.95
    stays: frozenset[str] = frozenset()
    still: frozenset[TensorKind] = frozenset()


@dataclass(slots=True, kw_only=True)
class _Sorting:
    """The report while it is made."""

    taken: dict[str, NDArray[np.generic]] = field(default_factory=dict[str, NDArray[np.generic]])
    loaded: dict[str, int] = field(default_factory=dict[str, int])
    adapted: dict[str, int] = field(default_factory=dict[str, int])
    reshaped: dict[str, int] = field(default_factory=dict[str, int])
    missing: dict[str, int] = field(default_factory=dict[str, int])
    left_out: dict[str, int] = field(default_factory=dict[str, int])


def match_state(
    network: Sequence[TensorSpec],
    state: State,
    record: AdaptationRecord,
    *,
    terms: TransferTerms,
) -> tuple[dict[str, NDArray[np.generic]], TransferReport]:
    """The arrays that a network takes over from pretrained weights.

    Args:
        network: Its tensors, each with the part it lies in, norm layers too.
        state: The pretrained weights, under their names in the file.
        record: What they were trained on.
        terms: What is taken over; a new stem that is refused counts as "random".

    Returns:
        Arrays by the network's names, of its shapes and types; and what became of every tensor.

    Raises:
        NameMapError: Two tensors of the file would have one name.
    """
    renaming = to_own_names(state, record.names)
    sorting = _Sorting()
    for spec in network:
        theirs = renaming.names.get(spec.name)
        if not _is_wanted(spec, terms):
            if theirs is not None:
                sorting.left_out[spec.name] = spec.size
        elif _is_new_stem(spec, record, terms) and terms.new_stem != "copy":
            sorting.left_out[spec.name] = spec.size
        elif theirs is None:
            sorting.missing[spec.name] = spec.size
        else:
            array = given = state[theirs]
            if _is_new_stem(spec, record, terms):
                array = stem_for_channels(given, before=record.channels, now=terms.channels)
            _sort(spec, array, is_adapted=array is not given, into=sorting)
    own = {spec.name for spec in network}
    strangers = [theirs for name, theirs in renaming.names.items() if name not in own]
    report = TransferReport(
        loaded=sorting.loaded,
        adapted=sorting.adapted,
        reshaped=sorting.reshaped,
        missing=sorting.missing,
        left_out=sorting.left_out,
        unexpected={name: state[name].size for name in (*renaming.unexpected, *strangers)},
        shares={},
    )
    return sorting.taken, report.model_copy(
        update={"shares": taken_shares(network, report, terms=terms)}
    )


def taken_shares(
    network: Sequence[TensorSpec], report: TransferReport, *, terms: TransferTerms
) -> dict[str, float]:
    """Of "encoder" and, where asked for, "decoder": the share of the values that was taken over.

    Args:
        network: The network's tensors, each with the part it lies in.
        report: What became of each.
        terms: What was to be taken over.
    """
    total: dict[str, int] = {}
    taken: dict[str, int] = {}
    for spec in network:
        if not _is_wanted(spec, terms) or spec.name in report.left_out:
            continue
        part = _PARTS[spec.kind]
        is_taken = spec.name in report.loaded or spec.name in report.adapted
        total[part] = total.get(part, 0) + spec.size
        taken[part] = taken.get(part, 0) + spec.size * is_taken
    return {part: taken[part] / values for part, values in total.items()}


def terms_of(study: Study, network: Sequence[TensorSpec]) -> TransferTerms:
    """On which terms a study's finetuning begins with the weights of a file.

    Args:
        study: The study; it names such a file.
        network: The tensors of its network, norm layers as such.
    """
    start, weights = study.finetune.start_from_pretrained(), study.weights
    assert weights is not None
    described = NetworkDescription(tensors=tuple(network), initial_digest=Digest(""))
    travel = {spec.name for spec in stage_exchange(described, stage=study.finetune).shared}
    return TransferTerms(
        channels=study.data.channels,
        normalisation=None if weights.other_normalisation else study.preprocessing.normalisation,
        spacing_mm=None if weights.other_spacing else study.preprocessing.spacing_mm,
        parts=start.parts,
        new_stem=weights.new_stem,
        least_share=weights.least_share,
        stays=frozenset(spec.name for spec in network if spec.name not in travel),
        still=_STILL[start.frozen],
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


def is_account_of(
    network: Sequence[TensorSpec],
    record: AdaptationRecord,
    report: TransferReport,
    *,
    terms: TransferTerms,
) -> bool:
    """Whether a report can be of a network: every tensor asked for stands in one list, as it is.

    Args:
        network: The network's tensors, each with the part it lies in.
        record: What the weights were trained on.
        report: What became of each tensor.
        terms: What was to be taken over.
    """
    lists = (report.loaded, report.adapted, report.reshaped, report.missing, report.left_out)
    told = [(name, size) for one in lists for name, size in one.items()]
    sizes = {spec.name: spec.size for spec in network}
    wanted = {spec.name for spec in network if _is_wanted(spec, terms)}
    new_stem = {spec.name for spec in network if _is_new_stem(spec, record, terms)}
    return (
        len(dict(told)) == len(told)
        and all(sizes.get(name) == size for name, size in told)
        and wanted <= dict(told).keys()
        and not {*report.loaded, *report.adapted} - wanted
        and not wanted & report.left_out.keys() - new_stem
        and report.shares == taken_shares(network, report, terms=terms)
    )


def transfer_problems(
    network: Sequence[TensorSpec],
    record: AdaptationRecord,
    report: TransferReport,
    *,
    terms: TransferTerms,
) -> list[Problem]:
    """Every reason not to go on from pretrained weights.

    Args:
        network: The network's tensors, each with the part it lies in.
        record: What the weights were trained on.
        report: What became of every tensor.
        terms: What was to be taken over, and on which terms.
    """
    problems: list[Problem] = []
    if encoder_architecture(network) != record.architecture:
        problems.append(_wrong("architecture", "the weights are those of another encoder", _SAME))
    if terms.parts == "whole" and record.transfers == "encoder":
        problems.append(
            _wrong("transfers", "the encoder alone was trained", 'Take parts = "encoder".')
        )
    if terms.normalisation is not None and terms.normalisation != record.normalisation:
        problems.append(
            _wrong(
                "normalisation",
                f"intensities were normalised by {record.normalisation}, and now by "
                f"{terms.normalisation}",
                "Use the normalisation of pretraining, or allow another one "
                "(weights.other_normalisation = true).",
            )
        )
    if terms.spacing_mm is not None and _is_another_size(terms.spacing_mm, record.spacing_mm):
        problems.append(
            _wrong(
                "spacing_mm",
                f"voxels were {_size(record.spacing_mm)} mm, and now are {_size(terms.spacing_mm)}",
                "Use the voxel size of pretraining, or allow another one "
                "(weights.other_spacing = true).",
            )
        )
    if terms.new_stem == "refuse" and terms.channels != record.channels:
        problems.append(
            _wrong(
                "channels",
                f"the channels were {', '.join(record.channels)}, and now are "
                f"{', '.join(terms.channels)}",
                'Begin with a new stem (weights.new_stem = "random"), or with the old one adapted '
                '("copy").',
            )
        )
    for part, share in report.shares.items():
        if share < terms.least_share:
            problems.append(_too_little(part, share, network, report, terms=terms))
    if untrained := _untrained(network, report, still=terms.still):
        problems.append(
            _wrong(
                "frozen",
                f"what stands still was not all taken over: {_some(untrained)}",
                "Let it learn, or use weights that have all of it.",
            )
        )
    return problems


_SAME = "Use the network of pretraining."

_ANOTHER_SIZE: Final = 1.5
"""How many times longer or shorter a voxel must be along some axis to be of another size."""


def _is_another_size(one: Spacing, other: Spacing) -> bool:
    ratios = (max(a, b) / min(a, b) for a, b in zip(one, other, strict=True))
    return max(ratios) > _ANOTHER_SIZE


def _size(spacing_mm: Spacing) -> str:
    return " x ".join(f"{side:g}" for side in spacing_mm)


def _too_little(
    part: str,
    share: float,
    network: Sequence[TensorSpec],
    report: TransferReport,
    *,
    terms: TransferTerms,
) -> Problem:
    lacking = report.missing.keys() | report.reshaped.keys()
    absent = [s.name for s in network if s.name in lacking and _PARTS.get(s.kind) == part]
    return _wrong(
        part,
        f"{100 * share:.1f} % of its values were found, less than {100 * terms.least_share:g} %; "
        f"missing or of another shape: {_some(absent)}",
        "Mend the name map, use the network of pretraining, or ask for a smaller share "
        "(weights.least_share).",
    )


def _untrained(
    network: Sequence[TensorSpec], report: TransferReport, *, still: Collection[TensorKind]
) -> list[str]:
    """Tensors that stand still as they were drawn; counters and other whole numbers aside."""
    return [
        spec.name
        for spec in network
        if spec.kind in still
        and np.issubdtype(np.dtype(spec.dtype), np.floating)
        and spec.name not in report.loaded
        and spec.name not in report.adapted
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")


def _wrong(where: str, what: str, fix: str) -> Problem:
    return Problem(where=where, what=what, fix=fix)


def _sort(
    spec: TensorSpec, array: NDArray[np.generic], *, is_adapted: bool, into: _Sorting
) -> None:
    if array.shape != spec.shape:
        into.reshaped[spec.name] = spec.size
        return
    (into.adapted if is_adapted else into.loaded)[spec.name] = spec.size
    into.taken[spec.name] = array.astype(spec.dtype, copy=False)


def _is_new_stem(spec: TensorSpec, record: AdaptationRecord, terms: TransferTerms) -> bool:
    return spec.kind is TensorKind.STEM and terms.channels != record.channels


def _is_wanted(spec: TensorSpec, terms: TransferTerms) -> bool:
    if spec.name in terms.stays:
        return False
    part = _PARTS.get(spec.kind)
    return part == "encoder" or (part == "decoder" and terms.parts == "whole")
