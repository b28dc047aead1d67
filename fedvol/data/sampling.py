"""Patches for training: which, from where, as a function of the step alone."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fedvol.config.data import Augmentation, Patches
from fedvol.data.augmentation import change_in_place, draw_changes
from fedvol.data.batch import Batch
from fedvol.data.case_store import StoredCase
from fedvol.data.decoded import SHARED, DecodedCases
from fedvol.data.read_ahead import ReadAhead
from fedvol.errors import CaseStoreError, NoCasesError
from fedvol.plan import derive_seed
from fedvol.types import Digest, Triple

_Host = tuple[Tensor, Tensor]


class PatchSource:
    """Draws the batches of one stage at one site; a `BatchSource`.

    A case is drawn uniformly, then a patch in it. Of `n` patches, `n * foreground_share` hold a
    voxel of a class drawn uniformly among those the case has: the whole part of that number
    always, the fraction with its probability, so the mean is the share at any batch size. The
    voxel is at the patch's centre unless the patch would leave the volume; the other patches lie
    uniformly. A side shorter than the patch is padded (`PADDING`, label 0), the volume anywhere
    inside. Cases are ordered by name first, so the order they are given in does not matter.

    Args:
        cases: Labelled cases; several sites' together for the pooled model.
        patches: Size, batch size and foreground share.
        augmentation: Random changes; None for none.
        num_classes: Classes, background included.
        plan: Digest of the plan.
        scope: Site, stage and the like; with the plan and the step it seeds every draw.
        device: Where the batch is put and augmented.
        decoded: Cases in main memory, where there is room.
        reads_ahead: Whether a thread reads the next step's patches meanwhile; None: if the device
            computes by itself. No bit depends on it.

    Raises:
        NoCasesError: `cases` is empty.
        CaseStoreError: A case has no label, or classes beyond `num_classes`.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        *,
        patches: Patches,
        augmentation: Augmentation | None,
        num_classes: int,
        plan: Digest,
        scope: tuple[str | int, ...],
        device: torch.device,
        decoded: DecodedCases = SHARED,
        reads_ahead: bool | None = None,
    ) -> None:
        if not cases:
            raise NoCasesError(
                " ".join(map(str, scope)), "no case to draw patches from", "Add labelled cases."
            )
        for case in cases:
            _check(case, num_classes=num_classes)
        self._cases = sorted(cases, key=lambda case: case.case)
        self._patches = patches
        self._augmentation = augmentation
        self._plan = plan
        self._scope = scope
        self._device = device
        self._decoded = decoded
        is_on = device.type != "cpu" if reads_ahead is None else reads_ahead
        self._host = ReadAhead(self._read, is_on=is_on)

    def batch(self, step: int) -> Batch:
        """The batch of one step; the same at every call.

        Args:
            step: Counted from 0 over the whole stage.

        Raises:
            CaseStoreError: A case that is read for the first time is damaged.
        """
        image, label = (part.to(self._device, non_blocking=True) for part in self._host.step(step))
        if self._augmentation is not None:
            generator = torch.Generator()
            generator.manual_seed(derive_seed(self._plan, *self._scope, "augmentation", step))
            changes = draw_changes(len(image), config=self._augmentation, generator=generator)
            change_in_place(image, label, changes=changes, generator=generator)
        return Batch(image=image, label=label.long())

    def _read(self, step: int) -> _Host:
        """Patches before augmentation, in main memory."""
        rng = np.random.default_rng(derive_seed(self._plan, *self._scope, "patches", step))
        count, size = self._patches.batch_size, self._patches.size
        is_pinned = self._device.type == "cuda"
        shape = (count, self._cases[0].num_channels, *size)
        images = torch.empty(shape, dtype=torch.float32, pin_memory=is_pinned)
        labels = torch.empty((count, *size), dtype=torch.uint8, pin_memory=is_pinned)
        num_foreground = self._num_foreground(rng)
        for position, (image, label) in enumerate(zip(images.numpy(), labels.numpy(), strict=True)):
            case = self._cases[int(rng.integers(len(self._cases)))]
            is_foreground = position < num_foreground and bool(case.foreground_classes)
            start = patch_start(case, size=size, is_foreground=is_foreground, rng=rng)
            case.read_patch(start, image=image, label=label, voxels=self._decoded.voxels(case))
        return images, labels

    def _num_foreground(self, rng: np.random.Generator) -> int:
        whole, fraction = divmod(self._patches.foreground_share * self._patches.batch_size, 1)
        return int(whole) + int(rng.random() < fraction)


def patch_start(
    case: StoredCase, *, size: Triple, is_foreground: bool, rng: np.random.Generator
) -> Triple:
    """Draw the first voxel of a patch; negative where the volume is smaller than the patch.

    Args:
        case: Where the patch is taken from.
        size: Voxels of the patch.
        is_foreground: Whether the patch must hold a labelled voxel; the case then has one.
        rng: Source of randomness.
    """
    room = np.subtract(case.shape, size)
    low, high = np.minimum(room, 0), np.maximum(room, 0)
    if is_foreground:
        classes = case.foreground_classes
        voxels = case.foreground(classes[int(rng.integers(len(classes)))])
        centre = voxels[int(rng.integers(len(voxels)))]
        # Where the volume is smaller than the patch every start holds the voxel: draw one.
        drawn = rng.integers(low, high, endpoint=True)
        start = np.where(room < 0, drawn, np.clip(centre - np.asarray(size) // 2, low, high))
    else:
        start = rng.integers(low, high, endpoint=True)
    i, j, k = (int(first) for first in start)
    return i, j, k


def _check(case: StoredCase, *, num_classes: int) -> None:
    if not case.has_label:
        raise CaseStoreError(
            f"case {case.case}", "has no label", "Leave unlabelled cases out of this stage."
        )
    if any(index >= num_classes for index in case.foreground_classes):
        raise CaseStoreError(
            f"case {case.case}",
            f"was prepared with more classes than {num_classes - 1}",
            "Delete the case store and prepare the data again.",
        )
