"""A site's volumes: listing, checking, splitting, preparing, sampling.

One volume's way: `layout` lists it, `splits` says what it is for, `ingest` has it read (`nifti`,
`geometry`), checked (`checks`), prepared (`preprocess`) and kept (`case_store`), and `catalogue`
remembers it; `sampling` and `augmentation` make patches of it. Nothing that is exported here needs
torch; `batch`, `sampling` and `augmentation` are imported by their own names.
"""

from fedvol.data.catalogue import CaseRecord, Catalogue
from fedvol.data.labels import class_indices, label_lut
from fedvol.data.layout import CaseEntry, read_entries
from fedvol.data.splits import assign_splits, require_disjoint_subjects
from fedvol.data.volume import PreparedCase, Volume

__all__ = [
    "CaseEntry",
    "CaseRecord",
    "Catalogue",
    "PreparedCase",
    "Volume",
    "assign_splits",
    "class_indices",
    "label_lut",
    "read_entries",
    "require_disjoint_subjects",
]
