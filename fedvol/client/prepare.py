"""From a folder of volumes to sites' catalogues and case stores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedvol.config import OpenStudy, Study
from fedvol.config.data import DataRequirement, Preprocessing
from fedvol.data import CaseRecord, assign_splits, read_entries
from fedvol.data.case_store import CaseStore
from fedvol.data.few_labels import require_known_sites, with_few_labels
from fedvol.data.ingest import ingest
from fedvol.plan import digest_json
from fedvol.store import SqlCatalogue
from fedvol.types import Digest, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSite:
    """A site's data, ready to train on.

    Attributes:
        records: The catalogue, in case order.
        store: The prepared cases.
    """

    records: tuple[CaseRecord, ...]
    store: CaseStore

    @property
    def digest(self) -> Digest:
        """Changes when a volume, a label, a subject, a split or a verdict changes."""
        return digest_json(
            [
                [
                    record.case,
                    record.subject,
                    record.split,
                    record.checksum,
                    record.label_checksum,
                    record.verdict,
                ]
                for record in self.records
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCases:
    """Cases of the training split that a site's table lists.

    Attributes:
        labelled: Those with a label.
        total: All of them.
    """

    labelled: int
    total: int


def listed_training(data: Path, *, requirement: DataRequirement) -> dict[SiteId, ListedCases]:
    """What the tables of a data folder list to train on, site by site; no volume is opened.

    Args:
        data: Folder of volumes: one hospital's, or those of several.
        requirement: What the study asks of the data.

    Raises:
        DataError: The folder, a table or a split is wrong, or a subject is in two places.
    """
    entries = read_entries(data, num_channels=len(requirement.channels))
    splits = assign_splits(entries, config=requirement.split)
    require_known_sites(requirement.few_labels, sites=entries.keys())
    entries = with_few_labels(entries, splits=splits, config=requirement.few_labels)
    listed = {
        site: [one for one in cases if splits[site][one.case] == "train"]
        for site, cases in entries.items()
    }
    return {
        site: ListedCases(labelled=sum(one.label is not None for one in cases), total=len(cases))
        for site, cases in listed.items()
    }


def check_sites(
    data: Path,
    *,
    study: OpenStudy,
    folder_of: Callable[[SiteId], Path],
    workers: int,
    on_case: Callable[[CaseRecord, int, int], None],
) -> dict[SiteId, tuple[CaseRecord, ...]]:
    """Check and catalogue every case of a data folder, before it is known how to prepare them.

    Args:
        data: Folder of volumes: one hospital's, or those of several.
        study: What each case must have.
        folder_of: Each site's own folder.
        workers: Child processes that read files.
        on_case: Called with each case's record, cases done at its site and their total.

    Returns:
        Each site's catalogue, in case order.

    Raises:
        DataError: A table or a split is wrong, a subject is in two places, too many cases are
            faulty, or none is usable.
        StoreError: A site's folder cannot be written.
    """
    return _catalogued(
        data,
        study=study,
        preprocessing=None,
        folder_of=folder_of,
        workers=workers,
        on_case=on_case,
    )


def prepare_sites(
    data: Path,
    *,
    study: Study,
    folder_of: Callable[[SiteId], Path],
    workers: int,
    on_case: Callable[[CaseRecord, int, int], None],
) -> dict[SiteId, PreparedSite]:
    """Check, catalogue and prepare every case of a data folder; what is prepared is left alone.

    Args:
        data: Folder of volumes: one hospital's, or those of several.
        study: What each case must have, and how it is prepared.
        folder_of: Each site's own folder.
        workers: Child processes that read files.
        on_case: Called with each case's record, cases done at its site and their total.

    Raises:
        DataError: A table or a split is wrong, a subject is in two places, too many cases are
            faulty, or none is usable.
        StoreError: A site's folder cannot be written.
    """
    catalogues = _catalogued(
        data,
        study=study,
        preprocessing=study.preprocessing,
        folder_of=folder_of,
        workers=workers,
        on_case=on_case,
    )
    return {
        site: PreparedSite(records=records, store=CaseStore(folder_of(site) / "cases"))
        for site, records in catalogues.items()
    }


def _catalogued(
    data: Path,
    *,
    study: Study | OpenStudy,
    preprocessing: Preprocessing | None,
    folder_of: Callable[[SiteId], Path],
    workers: int,
    on_case: Callable[[CaseRecord, int, int], None],
) -> dict[SiteId, tuple[CaseRecord, ...]]:
    entries = read_entries(data, num_channels=len(study.data.channels))
    done = dict.fromkeys(entries, 0)

    def count(record: CaseRecord) -> None:
        done[record.site] += 1
        on_case(record, done[record.site], len(entries[record.site]))

    records = ingest(
        entries,
        requirement=study.data,
        preprocessing=preprocessing,
        splits=assign_splits(entries, config=study.data.split),
        stores={site: folder_of(site) / "cases" for site in entries},
        workers=workers,
        on_case=count,
        pretrains=study.pretrain is not None,
    )
    sites: dict[SiteId, tuple[CaseRecord, ...]] = {}
    for site in entries:
        sites[site] = tuple(record for record in records if record.site == site)
        catalogue = SqlCatalogue(folder_of(site) / "catalogue.db", record=CaseRecord)
        catalogue.replace(sites[site])
        catalogue.close()
    return sites


def skipped_cases(sites: Mapping[SiteId, PreparedSite]) -> dict[str, dict[str, str]]:
    """Each case left out and why, per site; for eyes at the site, or in a simulation."""
    return {
        site: {record.case: record.reason for record in faulty}
        for site, prepared in sorted(sites.items())
        if (faulty := [record for record in prepared.records if not record.is_usable])
    }
