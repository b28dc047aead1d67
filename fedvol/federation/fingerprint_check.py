"""Is a site's fingerprint one that can be? It is added to others, so nothing in it is believed."""

from itertools import pairwise

from fedvol.config import OpenStudy
from fedvol.errors import ContributionError
from fedvol.federation.contribution_check import check_report
from fedvol.federation.messages import Reply, Request
from fedvol.plan import EXTENT, INTENSITY, SPACING, Fingerprint, Histogram, Scale, class_names


def check_fingerprint(reply: Reply, *, request: Request, study: OpenStudy) -> Fingerprint:
    """What a site says of its training cases; the reply has no code.

    Raises:
        ContributionError: Names, bins, counts or totals are not what can be.
    """
    found = check_report(reply, Fingerprint, request=request)
    channels = tuple(channel.name for channel in found.channels)
    classes = tuple(one.name for one in found.classes)
    if channels != study.data.channels or classes != class_names(study.data):
        raise ContributionError(
            f"site {request.site}, {request.action.value}",
            "it names other channels or classes than the study",
            "Bring the site to the study's fedvol version, or leave it out.",
        )
    if what := _impossible(found):
        where = f"site {request.site}, {request.action.value}"
        raise ContributionError(where, what, "Look at the site's log.")
    return found


def _impossible(found: Fingerprint) -> str:
    """What cannot be in a fingerprint; empty if all of it can."""
    if set(found.withheld) - _names(found):
        return "it withholds figures that nobody asked for"
    if found.subjects > found.cases or (
        (found.subjects == 0) != (found.cases == 0 or "subjects" in found.withheld)
    ):
        return "its subjects do not fit its cases"
    axes = (*found.spacing_mm, *found.extent_mm)
    if any(axis.total != found.cases for axis in axes):
        return "an axis does not count every case once"
    scaled: list[tuple[Histogram, Scale]] = [
        *((axis, SPACING) for axis in found.spacing_mm),
        *((axis, EXTENT) for axis in found.extent_mm),
        *((channel.histogram, INTENSITY) for channel in found.channels),
    ]
    if not all(_is_partition(histogram, scale=scale) for histogram, scale in scaled):
        return "its bins are not in order, overlap or lie outside the scale"
    return _impossible_voxels(found)


def _impossible_voxels(found: Fingerprint) -> str:
    totals = {
        channel.histogram.total
        for channel in found.channels
        if f"channels/{channel.name}" not in found.withheld
    }
    if len(totals) > 1:
        return "channels count different numbers of labelled voxels"
    voxels = sum(one.voxels for one in found.classes)
    is_told = not any(name.endswith("/voxels") for name in found.withheld)
    for total in totals:
        if voxels > total or (is_told and voxels != total):
            return "the voxels of its classes do not add up"
    for one in found.classes:
        hidden = {f"classes/{one.name}/{name}" for name in ("cases", "voxels")} & {*found.withheld}
        if one.cases > found.cases or (not hidden and (one.cases == 0) != (one.voxels == 0)):
            return "the cases of a class do not fit its voxels"
    for channel in found.channels:
        num, total, squares = channel.histogram.total, int(channel.sum), int(channel.sum_of_squares)
        # Cauchy and Schwarz: no numbers have a smaller sum of squares for their sum.
        if squares < 0 or total * total > num * squares or (num == 0 and squares):
            return "the sums of a channel cannot be those of its voxels"
    return ""


def _is_partition(histogram: Histogram, *, scale: Scale) -> bool:
    if list(histogram.cells) != sorted(histogram.cells):
        return False
    spans = sorted((index << level, (index + 1) << level) for level, index, _ in histogram.cells)
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        return False
    return not spans or spans[-1][1] <= scale.num_leaves


def _names(found: Fingerprint) -> set[str]:
    return {
        "subjects",
        *(f"channels/{channel.name}" for channel in found.channels),
        *(f"classes/{one.name}/{what}" for one in found.classes for what in ("cases", "voxels")),
    }
