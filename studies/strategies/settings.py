"""The data: one real federation, and three generated ones that differ strongly in one way."""

from dataclasses import dataclass
from pathlib import Path

from fedvol.data.phantom import generate_hospitals
from fedvol.data.phantom_shifts import NUM_TEST, NUM_VALIDATION, Shift, shifted_hospitals
from studies.strategies.budget import Budget

NUM_FOLDS = 5

_HIPPOCAMPUS = """
[data]
channels = ["T1"]
labels = { anterior = 1, posterior = 2 }
split = { kind = "fold", test = TEST, validation = VALIDATION }

[preprocessing]
spacing_mm = [1.5, 1.5, 1.5]
normalisation = { kind = "z_score" }

[patches]
size = [24, 32, 24]
batch_size = 2
foreground_share = 0.33
"""

_PHANTOM = """
[data]
channels = ["CT"]
labels = { liver = 1, kidney = 2, lesion = 3 }
split = { kind = "column" }

[preprocessing]
spacing_mm = [4.0, 4.0, 4.0]
normalisation = { kind = "window", window_hu = [-200.0, 300.0] }

[patches]
size = [28, 24, 24]
batch_size = 2
foreground_share = 0.0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One kind of difference between four sites.

    Attributes:
        name: Part of folders' names.
        title: Its heading on the page.
        what: What differs, in words.
        base: The study's tables on data, preparation and patches.
        classes: What is outlined, in the order of the columns.
        mirror_axes: Axes along which patches are mirrored.
        shift: How hospitals are generated; None: they are given.
        cases: Training cases of the largest generated hospital.
    """

    name: str
    title: str
    what: str
    base: str
    classes: tuple[str, ...]
    mirror_axes: str
    shift: Shift | None = None
    cases: int = 0

    def tables(self, seed: int) -> str:
        """The study's tables on data; another seed, other test cases."""
        return self.base.replace("TEST", str(seed % NUM_FOLDS)).replace(
            "VALIDATION", str((seed + 1) % NUM_FOLDS)
        )

    def make(self, folder: Path, *, seed: int, budget: Budget) -> None:
        """Generate the hospitals, where that is not done yet.

        Args:
            folder: Where; it is there only once it is whole.
            seed: Seed of the bodies and their scans.
            budget: How many cases, where it says so.
        """
        if folder.is_dir():
            return
        if self.shift is None:
            raise ValueError(f"{self.name} is given, not generated")
        num_validation, num_test = budget.held_out or (NUM_VALIDATION, NUM_TEST)
        hospitals = shifted_hospitals(
            self.shift,
            num_cases=budget.cases or self.cases,
            num_validation=num_validation,
            num_test=num_test,
        )
        working = folder.with_name(f".{folder.name}.part")
        generate_hospitals(working, hospitals=hospitals, seed=seed)
        working.rename(folder)


def _phantom(shift: Shift, *, title: str, what: str, cases: int) -> Setting:
    return Setting(
        name=shift,
        title=title,
        what=what,
        base=_PHANTOM,
        classes=("liver", "kidney", "lesion"),
        mirror_axes="[]",
        shift=shift,
        cases=cases,
    )


SETTINGS = (
    Setting(
        name="hippocampus",
        title="Hippocampus as it is",
        what="four sites of 41, 24, 65 and 67 volumes, told apart by how the images are encoded; "
        "seed s tests on fold s and chooses the round on fold s + 1",
        base=_HIPPOCAMPUS,
        classes=("anterior", "posterior"),
        mirror_axes="[0]",
    ),
    _phantom(
        "label",
        title="Label skew",
        what="lesions in all cases, none, none, half of them; kidneys in nobody, all, nobody, all; "
        "12 training cases each",
        cases=12,
    ),
    _phantom("size", title="Size skew", what="2, 4, 8 and 40 training cases, alike", cases=40),
    _phantom(
        "scanner",
        title="Scanner shift",
        what="four scales, curves, sharpnesses and noises of intensities; 12 training cases each",
        cases=12,
    ),
)
