"""Whether prepared cases are whole: all of them, before a training that would find out late."""

from dataclasses import dataclass

from fedvol.data import CaseRecord
from fedvol.data.case_store import CaseStore
from fedvol.errors import CaseStoreError
from fedvol.site.preparing import PreparedCases
from fedvol.store import SqlCatalogue
from fedvol.types import CaseId


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCheck:
    """What reading prepared cases found.

    Attributes:
        prepared: Where they lie.
        num_cases: How many there should be.
        damaged: What is wrong with a case, by its name; for eyes at the site.
    """

    prepared: PreparedCases
    num_cases: int
    damaged: dict[CaseId, str]

    def require_whole(self) -> None:
        """Refuse cases of which one could not be trained on or judged.

        Raises:
            CaseStoreError: At least one is damaged; names all of them.
        """
        if self.damaged:
            raise CaseStoreError(
                f"cases {', '.join(sorted(self.damaged))}",
                f"{len(self.damaged)} of {self.num_cases} prepared copies are damaged or gone",
                f"Delete {self.prepared.folder}; a running site prepares it anew.",
            )


def check_prepared(prepared: PreparedCases) -> PreparedCheck:
    """Read every prepared case, and compare it with its digest; nothing is written.

    Raises:
        StoreError: The catalogue cannot be read.
    """
    catalogue = SqlCatalogue(prepared.folder / "catalogue.db", record=CaseRecord)
    try:
        cases = [record.case for record in catalogue.records() if record.is_usable]
    finally:
        catalogue.close()
    store = CaseStore(prepared.folder / "cases")
    damaged: dict[CaseId, str] = {}
    for case in cases:
        try:
            store.open(case).check()
        except CaseStoreError as error:
            damaged[case] = error.what
    return PreparedCheck(prepared=prepared, num_cases=len(cases), damaged=damaged)
