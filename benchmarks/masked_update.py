"""An update that is masked against seven other sites, for the benchmarks of secure aggregation."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.measurement import Detail, Size
from fedvol.privacy.secagg import SiteMasks, Terms, code_of, masked_upload
from fedvol.privacy.secagg.context import Bits
from fedvol.privacy.secagg.masks import Masks
from fedvol.types import State

SITES = 8
MAX_WEIGHT = 1000
WEIGHT = 10

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCase:
    """How large an update is, and how often a benchmark repeats."""

    values: int
    tensors: int
    repeats: int

    @property
    def sizes(self) -> Detail:
        """For the detail of a figure."""
        return {"values": self.values, "sites": SITES}

    def update(self) -> State:
        """Small normal values."""
        generator = np.random.default_rng(7)
        each = self.values // self.tensors
        return {
            f"tensor.{index}": generator.normal(scale=1e-4, size=each).astype(np.float32)
            for index in range(self.tensors)
        }


CASES: dict[Size, UpdateCase] = {
    "tiny": UpdateCase(values=200_000, tensors=4, repeats=1),
    "default": UpdateCase(values=30_000_000, tensors=60, repeats=3),
    "large": UpdateCase(values=100_000_000, tensors=200, repeats=3),
}


def draw_keys() -> tuple[bytes, ...]:
    """One a mask: the site's own, and one with each of the others."""
    return tuple(secrets.token_bytes(_KEY_BYTES) for _ in range(SITES))


def masking(
    case: UpdateCase, update: State, *, bits: Bits, num_threads: int = 1
) -> Callable[[], object]:
    """Clips, weighs, rounds and masks an update, into memory that is held from call to call."""
    keys = draw_keys()
    code = code_of(
        Terms(num_values=case.values, bits=bits, norm_bound=1.0, max_weight=MAX_WEIGHT),
        num_parties=SITES,
    )
    masks = SiteMasks(body=Masks(added=keys[: SITES // 2], subtracted=keys[SITES // 2 :]))
    into = np.zeros(code.num_words, dtype=code.dtype)

    def upload() -> object:
        return masked_upload(
            update,
            names=list(update),
            weight=WEIGHT,
            figures=(),
            code=code,
            masks=masks,
            context=bytes(_KEY_BYTES),
            into=into,
            num_threads=num_threads,
        )

    return upload
