"""Generated hospitals that differ strongly in one way: classes, size or scanner."""

from dataclasses import replace
from typing import Literal, assert_never, get_args

from fedvol.data.phantom import NUM_FOLDS, Hospital

Shift = Literal["label", "size", "scanner"]
"""What differs between hospitals: which organs are there, how many cases, how images look."""

SHIFTS: tuple[Shift, ...] = get_args(Shift)

NUM_VALIDATION, NUM_TEST = 4, 8
"""Held-out subjects of every hospital, however few it trains on."""

_SPACING_MM = (4.0, 4.0, 4.0)
_SHAPE = (28, 23, 23)
_SIZE_SHARES = (0.05, 0.1, 0.2, 1.0)
_LESION_PREVALENCES = (1.0, 0.0, 0.0, 0.5)
_KIDNEY_PREVALENCES = (0.0, 1.0, 0.0, 1.0)
_SCANNERS: tuple[dict[str, float], ...] = (
    {"noise_hu": 12.0, "blur_mm": 0.6},
    {"noise_hu": 45.0, "blur_mm": 1.0, "scale": 1.4, "offset_hu": 60.0},
    {"noise_hu": 15.0, "blur_mm": 3.5, "gamma": 1.5},
    {"noise_hu": 30.0, "blur_mm": 2.0, "scale": 0.6, "offset_hu": -80.0, "gamma": 0.8},
)


def shifted_hospitals(
    shift: Shift,
    *,
    num_sites: int = 4,
    num_cases: int = 12,
    num_validation: int = NUM_VALIDATION,
    num_test: int = NUM_TEST,
) -> tuple[Hospital, ...]:
    """Hospitals alike in everything but one; the fifth is like the first, and so on.

    Their tables have a column `split`. Every subject has one case.

    Args:
        shift: `label`: lesions in all cases, none, none, half of them; kidneys in nobody, all,
            nobody, all. `size`: a twentieth, a tenth, a fifth and all of `num_cases` to train on.
            `scanner`: four scales, curves, sharpnesses and noises of intensities.
        num_sites: How many.
        num_cases: Training cases of the largest hospital.
        num_validation: Validation cases of every hospital.
        num_test: Test cases of every hospital.
    """
    return tuple(
        _hospital(
            shift,
            index,
            num_cases=num_cases,
            num_validation=num_validation,
            num_test=num_test,
        )
        for index in range(num_sites)
    )


def _hospital(
    shift: Shift, index: int, *, num_cases: int, num_validation: int, num_test: int
) -> Hospital:
    kind = index % len(_SIZE_SHARES)
    share = _SIZE_SHARES[kind] if shift == "size" else 1.0
    held_out = num_validation + num_test
    total = max(NUM_FOLDS, max(1, round(num_cases * share)) + held_out)
    alike = Hospital(
        name=f"hospital_{index + 1}",
        num_cases=total,
        num_subjects=total,
        spacing_mm=_SPACING_MM,
        shape=_SHAPE,
        noise_hu=20.0,
        blur_mm=1.0,
        scale=1.0,
        offset_hu=0.0,
        lesion_prevalence=0.7,
        num_validation=num_validation,
        num_test=num_test,
    )
    match shift:
        case "label":
            return replace(
                alike,
                lesion_prevalence=_LESION_PREVALENCES[kind],
                kidney_prevalence=_KIDNEY_PREVALENCES[kind],
            )
        case "size":
            return alike
        case "scanner":
            return replace(alike, **_SCANNERS[kind])
        case _:
            assert_never(shift)
