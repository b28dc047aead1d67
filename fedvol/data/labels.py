"""From the values in label volumes to class indices: 0 is background, then values in order."""

from typing import Final

import numpy as np
from jaxtyping import UInt8

from fedvol.config.data import DataRequirement
from fedvol.plan import class_names

UNNAMED: Final = 255
"""Class index of a label value that the study does not name; no study has so many classes."""


def class_indices(requirement: DataRequirement) -> dict[str, int]:
    """Class name to class index, from 1 on; 0 is background."""
    return {name: index for index, name in enumerate(class_names(requirement), start=1)}


def label_lut(requirement: DataRequirement) -> UInt8[np.ndarray, "256"]:
    """Table from label value to class index; a value the study does not name becomes 255."""
    lut = np.full(256, UNNAMED, dtype=np.uint8)
    lut[0] = 0
    for name, index in class_indices(requirement).items():
        lut[requirement.labels[name]] = index
    return lut
