from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from fedvol.data.catalogue import AffineRows, CaseRecord, Catalogue
from fedvol.errors import SchemaVersionError, StoreError
from fedvol.store.catalogue import SqlCatalogue
from fedvol.types import CaseId, Digest, SiteId, SubjectId

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
sides = st.integers(1, 10_000)
rows = st.tuples(numbers, numbers, numbers, numbers)
records_of_any_kind = st.builds(
    CaseRecord,
    site=words.map(SiteId),
    case=words.map(CaseId),
    subject=words.map(SubjectId),
    split=st.sampled_from(["train", "validation", "test"]),
    images=st.lists(words, min_size=1, max_size=3).map(tuple),
    label=st.none() | words,
    shape=st.none() | st.tuples(sides, sides, sides),
    spacing_mm=st.none() | st.tuples(numbers, numbers, numbers),
    affine=st.none() | st.tuples(rows, rows, rows, rows),
    checksum=words.map(Digest),
    label_checksum=words.map(Digest),
    content=words.map(Digest),
    voxels=st.none() | st.dictionaries(words, st.integers(0, 2**40), max_size=3),
    verdict=words,
    reason=words,
)
IDENTITY: AffineRows = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))


def record(case: str, *, site: str = "a", verdict: str = "") -> CaseRecord:
    return CaseRecord(
        site=SiteId(site),
        case=CaseId(case),
        subject=SubjectId(f"S-{case}"),
        split="train",
        images=(f"imagesTr/{case}.nii.gz",),
        label=None,
        verdict=verdict,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalogue.db"


def opened(path: Path) -> SqlCatalogue[CaseRecord]:
    return SqlCatalogue(path, record=CaseRecord)


def in_order(records) -> tuple[CaseRecord, ...]:
    return tuple(sorted(records, key=lambda r: (r.site.encode(), r.case.encode())))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(records_of_any_kind, max_size=4, unique_by=lambda r: (r.site, r.case)))
def test_records_come_back_as_they_went_in(path: Path, records: list[CaseRecord]) -> None:
    catalogue: Catalogue = opened(path)
    catalogue.replace(records)
    opened(path).close()
    assert catalogue.records() == in_order(records)


def test_add_replaces_by_site_and_case_and_replace_forgets_the_rest(path: Path) -> None:
    catalogue = opened(path)
    catalogue.add([record("c1"), record("c1", site="b")])
    catalogue.add([record("c1", verdict="FV-DATA-003"), record("c0")])
    assert [(r.site, r.case, r.verdict) for r in catalogue.records()] == [
        ("a", "c0", ""),
        ("a", "c1", "FV-DATA-003"),
        ("b", "c1", ""),
    ]
    catalogue.replace([record("c9")])
    assert [r.case for r in catalogue.records()] == ["c9"]
    catalogue.close()


def test_a_failed_call_changes_nothing(path: Path) -> None:
    catalogue = opened(path)
    catalogue.add([record("c1")])
    with pytest.raises(StoreError):
        catalogue.replace([record("c2"), record("c2")])
    assert [r.case for r in catalogue.records()] == ["c1"]
    catalogue.close()


def test_another_version_and_a_changed_row_are_refused(path: Path) -> None:
    catalogue = opened(path)
    catalogue.add([record("c1")])
    catalogue.close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        connection.execute(text("UPDATE catalogue_case SET split = 'holdout'"))
    again = opened(path)
    with pytest.raises(StoreError, match=r"case a/c1: its record is not valid"):
        again.records()
    again.close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'catalogue_0099'"))
    engine.dispose()
    with pytest.raises(SchemaVersionError, match="FV-STORE-002"):
        opened(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError):
        opened(path)
