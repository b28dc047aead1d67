"""What a pretext task was about, on a validation case of a few sites; a simulation may show it."""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fedvol.config.pretext import PretextTask, VolumeFusion
from fedvol.report import PretextPlanes
from fedvol.simulation.pictures import as_page
from fedvol.simulation.session import FEDERATED, Session
from fedvol.ssl import PretextPicture
from fedvol.store import CheckpointKind
from fedvol.types import CaseId, SiteId

MOST_SITES: Final = 3
"""Sites of which a picture is shown: the first by name that have one."""

_Slice = Float[Tensor, "i j"]


def pretext_pictures(session: Session) -> tuple[PretextPlanes, ...]:
    """A slice for the first validation case of each of a few sites; none of a task without any.

    The network is the pretrain stage's best round's, over each site's own local tensors.
    """
    stage = session.study.pretrain
    assert stage is not None
    (held,) = session.store.checkpoints(FEDERATED, kind=CheckpointKind.PRETRAINED)
    with session.blobs(FEDERATED).open(held.digest) as file:
        pretrained = file.read_all()
    found: list[PretextPlanes] = []
    for site in sorted(session.sites):
        if len(found) == MOST_SITES:
            break
        made = session.agent(site).pretext_picture(
            pretrained, run=FEDERATED, stage=held.stage, best_round=held.round
        )
        if made is not None:
            found.append(_planes(session, site, *made))
    return tuple(found)


def grey_planes(
    picture: PretextPicture, *, task: PretextTask, k: int
) -> tuple[UInt8[np.ndarray, "i j"], UInt8[np.ndarray, "i j"], UInt8[np.ndarray, "i j"]]:
    """Input, target and output of one axial slice, first channel, as grey values.

    Target and output have one scale: that of the target where intensities are restored, so that an
    output that is off looks so, and what lies beyond it is black or white. Classes go from black
    for the first to white for the last, whichever are seen. The input has the target's scale too
    where it is of the same kind.

    Args:
        picture: What was asked and answered.
        task: The task.
        k: The slice.
    """
    shown, wanted, given = (
        part[0, :, :, k] for part in (picture.shown, picture.wanted, picture.given)
    )
    scale = (0.0, float(task.levels)) if isinstance(task, VolumeFusion) else _range(wanted)
    return (
        _grey(shown, scale=scale if task.restores else _range(shown)),
        _grey(wanted, scale=scale),
        _grey(given, scale=scale),
    )


def slice_to_see(picture: PretextPicture) -> int:
    """The axial slice with most to see; of several the one nearest to the middle."""
    area = picture.changed_area
    from_middle = (2 * torch.arange(len(area)) - len(area) + 1).abs()
    return min(range(len(area)), key=lambda k: (-int(area[k]), int(from_middle[k])))


def _planes(session: Session, site: SiteId, case: CaseId, picture: PretextPicture) -> PretextPlanes:
    study = session.study
    assert study.pretrain is not None
    k = slice_to_see(picture)
    shown, wanted, given = map(as_page, grey_planes(picture, task=study.pretrain.task, k=k))
    channels = study.data.channels
    of_channel = f", channel {channels[0]}" if len(channels) > 1 else ""
    spacing_mm = study.preprocessing.spacing_mm
    return PretextPlanes(
        site=site,
        case=case,
        shown=shown,
        wanted=wanted,
        given=given,
        spacing_mm=(spacing_mm[1], spacing_mm[0]),
        view=f"axial slice {k + 1} of {picture.shown.shape[3]} of a patch{of_channel}",
    )


def _range(plane: _Slice) -> tuple[float, float]:
    return float(plane.min()), float(plane.max())


def _grey(plane: _Slice, *, scale: tuple[float, float]) -> UInt8[np.ndarray, "i j"]:
    """From a scale to 0..255; all of a scale of one value is black up to it, and white above."""
    low, high = scale
    extent = high - low
    share = (plane - low) / extent if extent > 0 else (plane > low).float()
    return (share.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
