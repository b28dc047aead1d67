"""Patches for training: which, from where, as a function of the step alone."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedvol.config.data import Augmentation, Patches
from fedvol.data.augmentation import augment
from fedvol.data.batch import Batch
from fedvol.data.box import Box, Triple
from fedvol.data.case_store import PADDING, StoredCase
from fedvol.errors import CaseStoreError, NoCasesError
from fedvol.plan import derive_seed
from fedvol.types import Digest

_SMALL_CASE_BYTES = 32 << 20
CACHE_BYTES = 1 << 30
"""Memory for one site's decoded cases, where nothing else is asked for."""


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
        cache_bytes: Memory for decoded small cases.

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
        cache_bytes: int = CACHE_BYTES,
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
        self._decoded = _DecodedCases(limit_bytes=cache_bytes)

    def batch(self, step: int) -> Batch:
        """The batch of one step; the same at every call.

        Args:
            step: Counted from 0 over the whole stage.
        """
        rng = np.random.default_rng(derive_seed(self._plan, *self._scope, "patches", step))
        images: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.uint8]] = []
        num_foreground = self._num_foreground(rng)
        for position in range(self._patches.batch_size):
            index = int(rng.integers(len(self._cases)))
            case = self._cases[index]
            is_foreground = position < num_foreground and bool(case.foreground)
            start = patch_start(case, size=self._patches.size, is_foreground=is_foreground, rng=rng)
            image, label = self._decoded.patch(index, case, start=start, size=self._patches.size)
            images.append(image)
            labels.append(label)
        batch = Batch(
            image=torch.from_numpy(np.stack(images)).to(self._device),
            label=torch.from_numpy(np.stack(labels)).to(self._device).long(),
        )
        if self._augmentation is None:
            return batch
        generator = torch.Generator()
        generator.manual_seed(derive_seed(self._plan, *self._scope, "augmentation", step))
        return augment(batch, config=self._augmentation, generator=generator)

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
        classes = sorted(case.foreground)
        voxels = case.foreground[classes[int(rng.integers(len(classes)))]]
        centre = voxels[int(rng.integers(len(voxels)))]
        # Where the volume is smaller than the patch every start holds the voxel: draw one.
        drawn = rng.integers(low, high, endpoint=True)
        start = np.where(room < 0, drawn, np.clip(centre - np.asarray(size) // 2, low, high))
    else:
        start = rng.integers(low, high, endpoint=True)
    i, j, k = (int(first) for first in start)
    return i, j, k


class _DecodedCases:
    """The small cases used last, decoded; others are read patch by patch from disk."""

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._held: OrderedDict[int, tuple[NDArray[np.float32], NDArray[np.uint8]]] = OrderedDict()

    def patch(
        self, index: int, case: StoredCase, *, start: Triple, size: Triple
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """What `StoredCase.patch` gives, from memory where possible."""
        case_bytes = int(np.prod(case.shape)) * (4 * case.num_channels + 1)
        if case_bytes > min(_SMALL_CASE_BYTES, self._limit_bytes):
            return case.patch(start, size)
        if index in self._held:
            self._held.move_to_end(index)
        else:
            self._held[index] = case.image(), case.label()
            self._size_bytes += case_bytes
            while self._size_bytes > self._limit_bytes:
                _, (image, label) = self._held.popitem(last=False)
                self._size_bytes -= image.nbytes + label.nbytes
        image, label = self._held[index]
        box = Box.at(start, size=size, shape=case.shape)
        inner_image, inner_label = image[(slice(None), *box.inner)], label[box.inner]
        return box.pad(inner_image, value=PADDING), box.pad(inner_label, value=0)


def _check(case: StoredCase, *, num_classes: int) -> None:
    if not case.has_label:
        raise CaseStoreError(
            f"case {case.case}", "has no label", "Leave unlabelled cases out of this stage."
        )
    if any(index >= num_classes for index in case.foreground):
        raise CaseStoreError(
            f"case {case.case}",
            f"was prepared with more classes than {num_classes - 1}",
            "Delete the case store and prepare the data again.",
        )
