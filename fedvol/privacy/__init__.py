"""The only way out of a site: policy, audit record, contribution."""

from fedvol.privacy.contribution import Contribution, Kind, Update
from fedvol.privacy.delivery import IN_PROCESS, Delivery
from fedvol.privacy.judged_cases import JudgedCases
from fedvol.privacy.release import Releaser
from fedvol.privacy.suppression import HeldSubjects

__all__ = [
    "IN_PROCESS",
    "Contribution",
    "Delivery",
    "HeldSubjects",
    "JudgedCases",
    "Kind",
    "Releaser",
    "Update",
]
