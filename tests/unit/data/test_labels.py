import numpy as np

from fedvol.config.data import DataRequirement
from fedvol.data.labels import UNNAMED, class_indices, label_lut
from fedvol.plan import class_names


def test_classes_are_in_order_of_their_value_not_of_the_file(requirement: DataRequirement) -> None:
    assert class_names(requirement) == ("head", "tail")
    assert class_indices(requirement) == {"head": 1, "tail": 2}


def test_values_with_gaps_become_dense_indices(requirement: DataRequirement) -> None:
    sparse = requirement.model_copy(update={"labels": {"vein": 200, "liver": 6, "lesion": 17}})
    lut = label_lut(sparse)
    assert class_names(sparse) == ("liver", "lesion", "vein")
    assert lut.dtype == np.uint8
    assert lut[[0, 6, 17, 200]].tolist() == [0, 1, 2, 3]
    assert (np.delete(lut, [0, 6, 17, 200]) == UNNAMED).all()
