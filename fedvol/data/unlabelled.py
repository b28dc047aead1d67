"""Patches for pretraining, from labelled and unlabelled cases alike; a function of the step."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fedvol.config.data import Augmentation
from fedvol.data.augmentation import change_in_place, draw_changes
from fedvol.data.batch import UnlabelledBatch
from fedvol.data.box import Box
from fedvol.data.case_store import StoredCase
from fedvol.data.decoded import SHARED, DecodedCases
from fedvol.data.read_ahead import ReadAhead
from fedvol.data.sampling import patch_start
from fedvol.errors import NoCasesError
from fedvol.plan import derive_seed
from fedvol.types import Digest, Triple

Patches = tuple[Float[Tensor, "batch channel i j k"], UInt8[Tensor, "batch i j k"] | None]
"""Patches, and 1 where a voxel lies in its volume; None: all do."""


class UnlabelledSource:
    """Draws the unlabelled batches of one stage at one site; a `BatchSource`.

    A case is drawn uniformly, then a patch anywhere in it; what a patch lacks is padded
    (`PADDING`), and the batch tells it apart (`UnlabelledBatch.inside`), as it does the corners
    that rotation brings in. Labels are never read. In a batch of pairs the partner of a patch is
    drawn in the same way among the other cases, so that no partner comes from the patch's own case.

    Args:
        cases: The cases; several sites' together for the pooled model.
        size: Voxels of a patch along i, j, k.
        batch_size: Patches of a batch, partners not counted.
        in_pairs: Whether each patch comes with a partner, in the second half of the batch.
        augmentation: Random changes; None for none.
        plan: Digest of the plan.
        scope: Site, stage and the like; with the plan and the step it seeds every draw.
        device: Where the batch is put and augmented.
        decoded: Cases in main memory, where there is room.

    Raises:
        NoCasesError: There is no case, or a single one where pairs are wanted.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        *,
        size: Triple,
        batch_size: int,
        in_pairs: bool,
        augmentation: Augmentation | None,
        plan: Digest,
        scope: tuple[str | int, ...],
        device: torch.device,
        decoded: DecodedCases = SHARED,
    ) -> None:
        needed = 2 if in_pairs else 1
        if len(cases) < needed:
            raise NoCasesError(
                " ".join(map(str, scope)),
                "no case to draw patches from"
                if not cases
                else "a single case, and the pretext task blends patches of different cases",
                f"Add cases: {needed} at least.",
            )
        self._cases = sorted(cases, key=lambda case: case.case)
        self._size = size
        self._batch_size = batch_size
        self._in_pairs = in_pairs
        self._augmentation = augmentation
        self._plan = plan
        self._scope = scope
        self._device = device
        self._decoded = decoded
        self._host = ReadAhead(self._read, is_on=device.type != "cpu")

    def batch(self, step: int) -> UnlabelledBatch:
        """The batch of one step; the same at every call.

        Args:
            step: Counted from 0 over the whole stage.

        Raises:
            CaseStoreError: A case that is read for the first time is damaged.
        """
        image, inside = self._host.step(step)
        image = image.to(self._device, non_blocking=True)
        if inside is not None:
            inside = inside.to(self._device, non_blocking=True)
        if self._augmentation is not None:
            inside = self._change(image, inside, step)
        return UnlabelledBatch(
            image=image,
            seed=self._seed("objective", step),
            inside=None if inside is None else inside.bool().unsqueeze(1),
        )

    def _change(
        self, image: Tensor, inside: UInt8[Tensor, "batch i j k"] | None, step: int
    ) -> UInt8[Tensor, "batch i j k"] | None:
        """Augment patches in place; what was inside goes with them, as a label would."""
        assert self._augmentation is not None
        generator = torch.Generator().manual_seed(self._seed("augmentation", step))
        changes = draw_changes(len(image), config=self._augmentation, generator=generator)
        is_whole = inside is None
        if inside is None:
            inside = image.new_ones((len(image), *self._size), dtype=torch.uint8)
        change_in_place(image, inside, changes=changes, generator=generator)
        return None if is_whole and not changes.shows_beyond else inside

    def _seed(self, purpose: str, step: int) -> int:
        return derive_seed(self._plan, *self._scope, purpose, step)

    def _read(self, step: int) -> Patches:
        """Patches before augmentation, in main memory."""
        rng = np.random.default_rng(self._seed("patches", step))
        drawn = [int(rng.integers(len(self._cases))) for _ in range(self._batch_size)]
        if self._in_pairs:
            others = len(self._cases) - 1
            drawn += [(one + 1 + int(rng.integers(others))) % (others + 1) for one in drawn]
        return draw_patches(
            [self._cases[index] for index in drawn],
            size=self._size,
            rng=rng,
            decoded=self._decoded,
            is_pinned=self._device.type == "cuda",
        )


def draw_patches(
    cases: Sequence[StoredCase],
    *,
    size: Triple,
    rng: np.random.Generator,
    decoded: DecodedCases | None = None,
    is_pinned: bool = False,
) -> Patches:
    """A patch of each case, anywhere in it, padded where the case is smaller.

    Args:
        cases: Of which patches are taken, in order; a case may come several times.
        size: Voxels of a patch along i, j, k.
        rng: Says where.
        decoded: Cases in main memory; None reads the files.
        is_pinned: Whether the patches lie in memory from which a GPU copies by itself.

    Raises:
        CaseStoreError: A case that is read for the first time is damaged.
    """
    shape = (len(cases), cases[0].num_channels, *size)
    images = torch.empty(shape, dtype=torch.float32, pin_memory=is_pinned)
    boxes: list[Box] = []
    for image, case in zip(images.numpy(), cases, strict=True):
        start = patch_start(case, size=size, is_foreground=False, rng=rng)
        voxels = None if decoded is None else decoded.voxels(case)
        case.read_patch(start, image=image, label=None, voxels=voxels)
        boxes.append(Box.at(start, size=size, shape=case.shape))
    if all(box.is_inside for box in boxes):
        return images, None
    inside = torch.zeros((len(cases), *size), dtype=torch.uint8, pin_memory=is_pinned)
    for one, box in zip(inside, boxes, strict=True):
        one[box.outer] = 1
    return images, inside
