"""The root of the error tree, and one finding of a check."""

from dataclasses import dataclass
from typing import ClassVar


class FedvolError(Exception):
    """Root of the tree.

    Args:
        where: The file, key, case, site or round concerned.
        what: What is wrong, without a full stop.
        fix: What to do about it, a sentence.
    """

    code: ClassVar[str] = "FV-000"
    title: ClassVar[str] = "fedvol failed"
    exit_status: ClassVar[int] = 1

    def __init__(self, where: str, what: str, fix: str) -> None:
        super().__init__(where, what, fix)
        self.where = where
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.code} {self.where}: {self.what}. {self.fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding of a check that collects all of them.

    Attributes:
        where: Key path, file or case.
        what: Reason, without a full stop.
        fix: What to do, a sentence.
    """

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.fix}"


def classes_by_code(root: type[FedvolError] = FedvolError) -> dict[str, type[FedvolError]]:
    """Every class of the tree, or of a branch, by its code."""
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= classes_by_code(child)
    return found
