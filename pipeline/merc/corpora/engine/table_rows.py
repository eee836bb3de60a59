"""The rows of a table of one's own, CSV or Parquet: cells as text, by what they mean, each checked where it is read."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from merc.corpora.engine.csv_rows import CsvRow, read_rows
from merc.errors import BadTable, RawDataMissing

_SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class TableRow:
    """One row.

    Attributes:
        where: file and line (CSV) or row (Parquet, from 1), for messages.
        cells: role → cell without blanks around it; empty where the table has no such column.
        recoded: True if the row was no UTF-8 and was read as cp1252.
    """

    where: str
    cells: Mapping[str, str]
    recoded: bool

    def name(self, role: str) -> str:
        """A cell that becomes part of ids.

        Raises:
            BadTable: if it is empty, or holds a slash or a control character.
        """
        cell = self.cells[role]
        if not cell or any(one in "/\\" or not one.isprintable() for one in cell):
            raise BadTable(f"{self.where}: the {role} is {cell!r}; a name is expected, without slashes and control characters")
        return cell

    def number(self, role: str) -> float | None:
        """A cell that holds a decimal number; None if it is empty.

        Raises:
            BadTable: if it is no finite number.
        """
        cell = self.cells[role]
        if not cell:
            return None
        try:
            value = float(cell)
        except ValueError as error:
            raise BadTable(f"{self.where}: {role} is {cell!r} instead of a number such as 12.5") from error
        if not math.isfinite(value):
            raise BadTable(f"{self.where}: {role} is {cell!r} instead of a finite number")
        return value

    def path(self, role: str) -> str:
        """A cell that names a file by a POSIX path; empty if there is none.

        Raises:
            BadTable: if the path is absolute or leads upwards, and so may leave the corpus's folder.
        """
        cell = self.cells[role]
        if not cell:
            return ""
        if not is_plain_path(cell):
            raise BadTable(f"{self.where}: the {role} {cell!r} leads out of the folder of media; a path below it is expected, with / between folders")
        return cell


def is_plain_path(path: str) -> bool:
    """Whether a POSIX path stays below the folder it is relative to, as far as can be told without following links.

    >>> [is_plain_path(one) for one in ("clips/a.mp4", "/etc/passwd", "../a.mp4", "a\\\\b.mp4", "")]
    [True, False, False, False, False]
    """
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts and not {"\0", "\\"} & set(path)


def read_table(path: Path, columns: Mapping[str, str], may_lack: Collection[str] = ()) -> list[TableRow]:
    """Reads all rows.

    Args:
        path: a ``.csv`` file with a header (see :mod:`merc.corpora.engine.csv_rows`) or a ``.parquet`` file.
        columns: role → name of its column; empty for a role that the table has no column for.
        may_lack: roles whose columns need not be there, though they are named.

    Raises:
        RawDataMissing: if the file is not there or lacks a column; the message names those that are missing and those that are there.
        BadTable: if the file is damaged or holds no row, or a column holds neither text nor numbers.
    """
    wanted = {role: name for role, name in columns.items() if name}
    if path.suffix not in _SUFFIXES:
        raise RawDataMissing(f"{path}: a table is a file whose name ends in {' or '.join(_SUFFIXES)}")
    required = [name for role, name in wanted.items() if role not in may_lack]
    rows = read_rows(path, required) if path.suffix == ".csv" else _read_parquet(path, required, list(wanted.values()))
    if not rows:
        raise BadTable(f"{path}: holds no utterance")
    unit = "line" if path.suffix == ".csv" else "row"
    return [TableRow(f"{path}, {unit} {row.line}", {role: row.cells.get(wanted.get(role, ""), "").strip() for role in columns}, row.recoded) for row in rows]


def _read_parquet(path: Path, required: Sequence[str], columns: Sequence[str]) -> list[CsvRow]:
    """Rows as of a CSV file: numbers as text, an empty cell for null."""
    try:
        names = pq.read_schema(path).names
        missing = [name for name in required if name not in names]
        if missing:
            raise RawDataMissing(f"{path}: the columns {', '.join(missing)} are missing; there are {', '.join(names)}")
        table = pq.read_table(path, columns=[name for name in names if name in columns])
    except OSError as error:
        raise RawDataMissing(f"{path}: cannot be read: {error}") from error
    except pa.ArrowInvalid as error:
        raise BadTable(f"{path}: not a Parquet file: {error}") from error
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not (
            pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
        ):
            raise BadTable(f"{path}: the column {field.name} holds {field.type} instead of text or numbers")
    return [
        CsvRow(number, {name: "" if value is None else str(value) for name, value in row.items()}, recoded=False)
        for number, row in enumerate(table.to_pylist(), start=1)
    ]
