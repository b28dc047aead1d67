"""The catalogue of cases in a database."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import JSON, delete, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fedvol.errors import StoreError
from fedvol.store.database import open_engine, reading, writing
from fedvol.store.schema import Component, prepare_schema
from fedvol.types import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


class SqlCatalogue(Generic[Record]):
    """Records of cases in one SQLite file.

    The record's class is an argument, because `data` owns it and `store` does not know `data`.
    Its fields are the columns of the table, and what is read is validated against it.

    Args:
        path: The file; made where absent.
        record: Frozen dataclass of one case.

    Raises:
        SchemaVersionError: The file was made by another version of fedvol.
        StoreError: The file is no database, is damaged or locked.
    """

    def __init__(self, path: Path, *, record: type[Record]) -> None:
        self._path = path
        self._adapter = TypeAdapter(record)
        self._engine = open_engine(path)
        prepare_schema(self._engine, CATALOGUE)

    def add(self, records: Sequence[Record]) -> None:
        """Keep records, all or none; a record of the same site and case is replaced."""
        with writing(self._engine) as session:
            for record in records:
                session.merge(_CaseRow(**asdict(record)))

    def replace(self, records: Sequence[Record]) -> None:
        """Keep exactly these records, all or none."""
        with writing(self._engine) as session:
            session.execute(delete(_CaseRow))
            session.add_all(_CaseRow(**asdict(record)) for record in records)

    def records(self) -> tuple[Record, ...]:
        """Every record, by site and case.

        Raises:
            StoreError: A row is no valid record.
        """
        with reading(self._engine) as session:
            rows = session.scalars(select(_CaseRow).order_by(_CaseRow.site, _CaseRow.case))
            return tuple(self._validated(row) for row in rows)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def _validated(self, row: "_CaseRow") -> Record:
        values = {column.key: getattr(row, column.key) for column in _CaseRow.__table__.columns}
        try:
            return self._adapter.validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            raise StoreError(
                f"{self._path} case {row.site}/{row.case}",
                "its record is not valid",
                "Ingest the data again.",
            ) from error


class _Base(DeclarativeBase):
    pass


class _CaseRow(_Base):
    __tablename__ = "catalogue_case"
    site: Mapped[str] = mapped_column(primary_key=True)
    case: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(index=True)
    split: Mapped[str]
    images: Mapped[list[Json]] = mapped_column(JSON)
    label: Mapped[str | None]
    shape: Mapped[list[Json] | None] = mapped_column(JSON(none_as_null=True))
    spacing_mm: Mapped[list[Json] | None] = mapped_column(JSON(none_as_null=True))
    affine: Mapped[list[Json] | None] = mapped_column(JSON(none_as_null=True))
    checksum: Mapped[str]
    label_checksum: Mapped[str]
    content: Mapped[str]
    voxels: Mapped[dict[str, Json] | None] = mapped_column(JSON(none_as_null=True))
    intensities: Mapped[list[Json] | None] = mapped_column(JSON(none_as_null=True))
    verdict: Mapped[str]
    reason: Mapped[str]


CATALOGUE = Component(name="catalogue", metadata=_Base.metadata, head="catalogue_0001", adopted=2)
