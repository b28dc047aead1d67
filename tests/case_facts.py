"""A study that leaves everything open, and made-up facts of cases, as a site notes them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from fedvol.data import CaseRecord
from fedvol.data.case_table import SplitName
from fedvol.plan import INTENSITY, CaseFacts, Fingerprint, Intensities, exact_sums
from fedvol.privacy.fingerprints import fingerprint
from fedvol.types import CaseId, SiteId, SubjectId

CHANNELS = ("CT",)
CLASSES = ("liver", "lesion")

OPEN_STUDY = """
version = 1
name = "parity"
purpose = "Two organs, everything planned that can be."
data = { channels = ["CT"], labels = { liver = 1, lesion = 2 }, split = { kind = "hash" } }
network = { kind = "unet" }
task = { kind = "segmentation" }

[[stages]]
kind = "finetune"
rounds = 1
steps_per_round = 1
strategy = { kind = "fedavg" }
training = { optimiser = { kind = "adamw" } }
"""
"""Of CT, with everything planned that can be."""

EDGES_MM = (0.5, 0.78125, 0.8, 1.0, 5.0)
SIDES = (1, 20, 33, 64, 512)
INTENSITIES = (-1000.0, -20.0, 0.0, 0.25, 40.0, 60.5, 3000.0)


def make_case(
    subject: str,
    *,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    voxels: tuple[list[float], ...],
) -> CaseFacts:
    """The facts of a case from the intensities of each class's voxels, in order of the classes."""
    everything = [value for values in voxels for value in values]
    values = np.asarray(everything, "f4")
    leaves = Counter(INTENSITY.leaves(values).tolist())
    total, squares = exact_sums(values)
    return CaseFacts(
        subject=SubjectId(subject),
        shape=shape,
        spacing_mm=spacing_mm,
        voxels={name: len(found) for name, found in zip(CLASSES, voxels, strict=True)},
        intensities=(
            Intensities(
                leaves=tuple(sorted(leaves)),
                counts=tuple(leaves[leaf] for leaf in sorted(leaves)),
                sum=total,
                sum_of_squares=squares,
            ),
        ),
    )


def case_record(
    number: int, *, split: SplitName = "train", side: int = 64, site: str = "site_a"
) -> CaseRecord:
    """A case of a subject of its own, as a site's catalogue has it."""
    facts = make_case(
        f"S{number}",
        shape=(side, side, side),
        spacing_mm=(1.0, 1.0, 1.0),
        voxels=([40.0, 41.0], [60.0]),
    )
    return CaseRecord(
        site=SiteId(site),
        case=CaseId(f"c{number}"),
        subject=SubjectId(f"S{number}"),
        split=split,
        images=("x.nii.gz",),
        label="y.nii.gz",
        shape=facts.shape,
        spacing_mm=facts.spacing_mm,
        voxels=facts.voxels,
        intensities=facts.intensities,
    )


def count(cases: Sequence[CaseFacts]) -> Fingerprint:
    return fingerprint(cases, channels=CHANNELS, classes=CLASSES, floor=1)


def volumes(*given: tuple[int, tuple[int, int, int], tuple[float, float, float]]) -> Fingerprint:
    """So many cases of a shape and a spacing each."""
    cases: list[CaseFacts] = []
    for num, shape, spacing_mm in given:
        voxels = ([40.0, 60.0, 80.0], [100.0])
        cases += [
            make_case(f"S{len(cases) + n}", shape=shape, spacing_mm=spacing_mm, voxels=voxels)
            for n in range(num)
        ]
    return count(cases)


@st.composite
def cases(draw: st.DrawFn, *, min_subjects: int, max_subjects: int) -> list[CaseFacts]:
    """Cases of several subjects, some with more than one, many alike and a few odd ones."""
    values = st.lists(st.sampled_from(INTENSITIES), max_size=6)
    num_subjects = draw(st.integers(min_subjects, max_subjects))
    owners = [
        f"S{number}"
        for number in range(num_subjects)
        for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3))))
    ]
    return [
        make_case(
            owner,
            shape=draw(st.tuples(*[st.sampled_from(SIDES)] * 3)),
            spacing_mm=draw(st.tuples(*[st.sampled_from(EDGES_MM)] * 3)),
            voxels=(draw(values), draw(values)),
        )
        for owner in owners
    ]
