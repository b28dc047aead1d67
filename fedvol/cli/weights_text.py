"""What lies in a file of weights, and what a network takes over of it, as lines for people."""

from collections.abc import Mapping

from fedvol.plan import AdaptationRecord, TransferReport

_MAX_NAMED = 5


def record_text(record: AdaptationRecord) -> str:
    """What weights were trained on."""
    normalisation = record.normalisation.model_dump(exclude={"kind"})
    values = ", ".join(f"{key} {value}" for key, value in normalisation.items())
    what = "the encoder alone" if record.transfers == "encoder" else "all but the head"
    rows = {
        "Task": record.task,
        "Transfers": what,
        "Channels": ", ".join(record.channels),
        "Patch": f"{' x '.join(map(str, record.patch))} voxels",
        "Voxel size": f"{' x '.join(f'{side:g}' for side in record.spacing_mm)} mm",
        "Intensities": record.normalisation.kind + (f" ({values})" if values else ""),
        "Encoder": f"{record.architecture[:12]} (digest of names, shapes and types)",
        "Names": _names(record),
    }
    width = max(map(len, rows))
    return "\n".join(f"{key.ljust(width)}  {value}" for key, value in rows.items())


def transfer_text(report: TransferReport) -> str:
    """What became of every tensor, a line for each list that is not empty."""
    shares = ", ".join(f"{part} {100 * share:.1f} %" for part, share in report.shares.items())
    lines = [f"Taken over: {_counted(report.loaded)} ({shares})"]
    others: dict[str, Mapping[str, int]] = {
        "Adapted to the channels": report.adapted,
        "Of another shape, not taken over": report.reshaped,
        "Missing in the file": report.missing,
        "Left out": report.left_out,
        "Unknown to the network": report.unexpected,
    }
    lines += [
        f"{title}: {_counted(tensors)}: {some_names(list(tensors))}"
        for title, tensors in others.items()
        if tensors
    ]
    return "\n".join(lines)


def some_names(names: list[str]) -> str:
    """The first names of a list."""
    return ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")


def _counted(tensors: Mapping[str, int]) -> str:
    noun = "tensor" if len(tensors) == 1 else "tensors"
    return f"{len(tensors)} {noun} of {sum(tensors.values()):,} values"


def _names(record: AdaptationRecord) -> str:
    prefix, patterns = record.names.prefix, len(record.names.names)
    words = [f"after the prefix {prefix}"] if prefix else []
    words += [f"by {patterns} {'pattern' if patterns == 1 else 'patterns'}"] if patterns else []
    return ", ".join(words) or "as in the network"
