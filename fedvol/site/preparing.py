"""A hospital's own cases for one study: which source fits, what is in it, and ready to train on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from fedvol.config import DataSource, OpenStudy, SiteConfig, SitePolicy, Study
from fedvol.config.base import Section
from fedvol.config.data import DataRequirement, Preprocessing
from fedvol.data import CaseEntry, CaseRecord, assign_splits
from fedvol.data.case_store import CaseStore
from fedvol.data.ingest import Cohort, ingest
from fedvol.data.layout import read_site_entries
from fedvol.errors import NoCasesError, NoDataSourceError, NotPreparedError
from fedvol.files import store_error, write_atomic
from fedvol.plan import digest_json
from fedvol.site.folder import SiteFolder
from fedvol.site.listing import listing_digest
from fedvol.site.pretext_cases import PretextCases
from fedvol.store import SqlCatalogue
from fedvol.types import Digest, SiteId

_READY = "ready.json"

OnCase = Callable[[CaseRecord, int, int], None]
"""Told each case's record, cases done and their total."""


class _Ready(Section):
    cases: int
    listing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCases:
    """A source's cases, ready for a study, and still those that its folder lists.

    Attributes:
        folder: Where catalogue and case store lie.
        listing: Digest of what the source's folder lists.
    """

    folder: Path
    listing: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a source holds for a study.

    Attributes:
        by_split: Usable labelled cases of each split.
        unlabelled: Usable cases without a label.
        by_code: Cases that are left out, by error code.
        reasons: Why, case by case; for eyes at the site.
        training_subjects: Patients behind the labelled training cases.
    """

    by_split: dict[str, int]
    unlabelled: int
    by_code: dict[str, int]
    reasons: dict[str, str]
    training_subjects: int

    @classmethod
    def of(cls, records: tuple[CaseRecord, ...]) -> "Findings":
        """Count the records of a source."""
        usable = [record for record in records if record.is_usable]
        labelled = [record for record in usable if record.is_labelled]
        return cls(
            by_split=dict(Counter(record.split for record in labelled)),
            unlabelled=len(usable) - len(labelled),
            by_code=dict(Counter(record.verdict for record in records if not record.is_usable)),
            reasons={record.case: record.reason for record in records if not record.is_usable},
            training_subjects=len({one.subject for one in labelled if one.split == "train"}),
        )


def require_floor(found: Findings, policy: SitePolicy, *, pretext: PretextCases | None) -> None:
    """Refuse a source with fewer patients than anything may be about that leaves.

    Args:
        found: What the source holds.
        policy: The site's.
        pretext: What it holds for the study's pretraining, None where there is none: a site takes
            part with enough patients for either stage, and sits the other out.

    Raises:
        NoCasesError: There are fewer patients to train on than the site's floor.
    """
    if is_enough(found, policy, pretext=pretext):
        return
    subjects, verb, why = found.training_subjects, "train", ""
    if pretext is not None and pretext.subjects < policy.floor:
        subjects, verb = pretext.subjects, "pretrain"
    elif pretext is not None:
        why = f"{pretext.lacks}; "
    raise NoCasesError(
        "cases",
        f"{why}{subjects} patients to {verb} on; the site's floor is {policy.floor}",
        "Add cases, or lower the floors in site.toml if the hospital's rules allow it.",
    )


def is_enough(found: Findings, policy: SitePolicy, *, pretext: PretextCases | None) -> bool:
    """Whether a source holds enough patients for one of a study's stages; as `require_floor`."""
    pretrains = pretext is not None and not pretext.lacks and pretext.subjects >= policy.floor
    return pretrains or found.training_subjects >= policy.floor


def fitting_source(
    config: SiteConfig, requirement: DataRequirement, *, name: str | None = None
) -> DataSource:
    """The data source that a study would use.

    Args:
        config: The site's file.
        requirement: What the study asks for.
        name: The source that a person chose; None: the only one that fits.

    Raises:
        NoDataSourceError: None fits, several do, or the chosen one does not.
    """
    asked = f"channels {', '.join(requirement.channels)}"
    if name is not None:
        for source in config.data:
            if source.name == name:
                if misfit := _misfit(source, requirement):
                    raise NoDataSourceError(
                        f"data source {name}",
                        misfit,
                        "Choose another source, or mend its table in site.toml.",
                    )
                return source
        raise NoDataSourceError(
            f"data source {name}", "there is none of this name", "See `fedvol data list`."
        )
    fitting = [source for source in config.data if not _misfit(source, requirement)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(source.name for source in fitting)
        raise NoDataSourceError(
            "data sources", f"several fit: {names}", "Name the one that is meant with --data."
        )
    raise NoDataSourceError(
        "data sources",
        f"none of the site's {len(config.data)} has what the study asks for ({asked})",
        "Add a folder with `fedvol data add`, or see what there is with `fedvol data list`.",
    )


def check_source(
    folder: SiteFolder, source: DataSource, study: Study | OpenStudy
) -> tuple[CaseRecord, ...]:
    """Read and check every case of a source as a study would have it; nothing is written.

    Raises:
        DataError: The folder's table is wrong, or the cases cannot be divided.
    """
    return _ingested(
        folder,
        listed_cases(folder, source, study),
        study,
        preprocessing=None,
        store=cases_folder(folder, source, study) / "cases",
        on_case=_nobody,
        cohort="look",
    )


def prepare_cases(
    folder: SiteFolder, source: DataSource, study: Study | OpenStudy, *, on_case: OnCase
) -> tuple[CaseRecord, ...]:
    """Check, catalogue and prepare the cases of a source for a study; what is ready is left alone.

    The prepared copy of a case that is no longer listed, or no longer usable, is removed. For a
    study that leaves its preprocessing to planning, cases are only checked and counted.

    Raises:
        DataError: The folder's table is wrong, too many cases are faulty, or none is usable.
        StoreError: The site's folder cannot be written.
    """
    target = cases_folder(folder, source, study)
    entries = listed_cases(folder, source, study)
    listing = listing_digest(entries)
    # Until the end nothing there counts as ready, not even if the folder becomes what it was.
    folder.remove(target / _READY)
    records = _ingested(
        folder,
        entries,
        study,
        preprocessing=study.preprocessing if isinstance(study, Study) else None,
        store=target / "cases",
        on_case=on_case,
    )
    catalogue = SqlCatalogue(target / "catalogue.db", record=CaseRecord)
    try:
        catalogue.replace(records)
    finally:
        catalogue.close()
    CaseStore(target / "cases").keep_only({one.case for one in records if one.is_usable})
    ready = _Ready(cases=len(records), listing=listing)
    write_atomic(target / _READY, ready.model_dump_json().encode())
    return records


def is_prepared(folder: SiteFolder, source: DataSource, study: Study | OpenStudy) -> bool:
    """Whether a study's cases are prepared, and are those that the source's folder lists now.

    Raises:
        DataError: The folder is not there, or its table is wrong.
        StoreError: The site's folder cannot be read.
    """
    return _prepared(folder, source, study) is not None


def require_prepared(
    folder: SiteFolder, source: DataSource, study: Study | OpenStudy
) -> PreparedCases:
    """A study's prepared cases.

    Raises:
        NotPreparedError: They are not ready, or the source's folder lists others by now.
        DataError: The folder is not there, or its table is wrong.
        StoreError: The site's folder cannot be read.
    """
    found = _prepared(folder, source, study)
    if found is None:
        raise NotPreparedError(
            f"data source {source.name}",
            "its cases, as they are listed now, are not prepared for this study yet",
            "`fedvol site start` prepares them after the approval; `fedvol site status` says how "
            "far it is.",
        )
    return found


def listed_cases(
    folder: SiteFolder, source: DataSource, study: Study | OpenStudy
) -> tuple[CaseEntry, ...]:
    """The cases that a source's folder lists; no volume is opened.

    Raises:
        DataError: The folder is not there, or its table is wrong.
    """
    site = SiteId(folder.config().site)
    found = read_site_entries(
        folder.source_folder(source), site=site, num_channels=len(study.data.channels)
    )
    return tuple(replace(entry, site=site) for entry in found)


def _prepared(
    folder: SiteFolder, source: DataSource, study: Study | OpenStudy
) -> PreparedCases | None:
    target = cases_folder(folder, source, study)
    path = target / _READY
    try:
        ready = _Ready.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):  # what is damaged is prepared anew
        return None
    except OSError as error:
        raise store_error(path, error) from error
    listing = listing_digest(listed_cases(folder, source, study))
    return PreparedCases(folder=target, listing=listing) if ready.listing == listing else None


def cases_folder(folder: SiteFolder, source: DataSource, study: Study | OpenStudy) -> Path:
    """Where cases of a source lie that are prepared as a study wants them."""
    preprocessing = (
        study.preprocessing.model_dump(mode="json") if isinstance(study, Study) else None
    )
    key = digest_json(
        [source.name, source.folder, study.data.model_dump(mode="json"), preprocessing]
    )
    return folder.cases(Digest(key))


def _ingested(
    folder: SiteFolder,
    listed: tuple[CaseEntry, ...],
    study: Study | OpenStudy,
    *,
    preprocessing: Preprocessing | None,
    store: Path,
    on_case: OnCase,
    cohort: Cohort = "site",
) -> tuple[CaseRecord, ...]:
    config = folder.config()
    site = SiteId(config.site)
    entries = {site: listed}
    done = 0

    def count(record: CaseRecord) -> None:
        nonlocal done
        done += 1
        on_case(record, done, len(listed))

    return ingest(
        entries,
        requirement=study.data,
        preprocessing=preprocessing,
        splits=assign_splits(entries, config=study.data.split),
        stores={site: store},
        workers=config.resources.workers,
        on_case=count,
        cohort=cohort,
        pretrains=study.pretrain is not None,
    )


def _nobody(record: CaseRecord, done: int, total: int) -> None:
    del record, done, total


def _misfit(source: DataSource, requirement: DataRequirement) -> str:
    """Why a source does not fit; empty if it does."""
    if source.channels != requirement.channels:
        return (
            f"its channels are {', '.join(source.channels)}, and the study asks for "
            f"{', '.join(requirement.channels)}"
        )
    if source.labels is None:
        return ""
    for label, value in requirement.labels.items():
        held = source.labels.get(label)
        if held is None:
            return f"it has no class {label}"
        if held != value:
            return f"its class {label} has the value {held}, and the study expects {value}"
    return ""
