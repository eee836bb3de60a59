"""The rows of your own table, CSV or Parquet: cells as text, by their meaning, each checked when it is read."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from merc import parquet
from merc.corpora.engine.csv_rows import LARGEST_CELL, CsvForm, CsvRow, check_columns, read_rows
from merc.corpora.engine.text_repair import repair
from merc.errors import BadTable, RawDataMissing

_TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
_WHOLE_NUMBER = re.compile(r"-?[0-9]+(\.0)?")
WHOLE = ("dialogue", "utterance", "speaker", "emotion", "sentiment", "split")
"""Roles whose cells are names, even if they look like numbers."""
REPAIRED = ("speaker", "emotion", "sentiment")
"""Roles in which a wrong decoding would split one name into two; texts are repaired elsewhere, where their original is
recorded.
"""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row.

    Attributes:
        where: file and line (CSV) or row (Parquet, from 1), for messages.
        cells: role → cell without surrounding blanks; empty if the table has no such column.
        recoded: True if the row was not UTF-8 and was read as cp1252.
        repaired: message about wrongly decoded text in the cells of :data:`REPAIRED`.
    """

    where: str
    cells: Mapping[str, str]
    recoded: bool
    repaired: tuple[str, ...] = ()

    def name(self, role: str) -> str:
        """A cell that becomes part of an id.

        Raises:
            BadTable: if it is empty, or holds a slash or a control character.
        """
        cell = self.cells[role]
        if not cell or any(one in "/\\" or not one.isprintable() for one in cell):
            raise BadTable(
                f"{self.where}: the {role} is {cell!r}; a name is expected, without slashes and control characters"
            )
        return cell

    def number(self, role: str) -> float | None:
        """A cell that holds a decimal number; None if it is empty.

        Raises:
            BadTable: if it is not a finite number.
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
            BadTable: if the path is absolute or goes up, and so may leave the corpus's folder.
        """
        cell = self.cells[role]
        if not cell:
            return ""
        if not is_plain_path(cell):
            raise BadTable(
                f"{self.where}: the {role} {cell!r} leads outside the media folder; expected a path below it, with /"
                " between folders"
            )
        return cell


def is_plain_path(path: str) -> bool:
    """Whether a POSIX path stays below the folder it is relative to, as far as can be known without following links.

    >>> [is_plain_path(one) for one in ("clips/a.mp4", "/etc/passwd", "../a.mp4", "a\\\\b.mp4", "")]
    [True, False, False, False, False]
    """
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts and not {"\0", "\\"} & set(path)


def read_table(
    path: Path, columns: Mapping[str, str | Sequence[str]], may_lack: Collection[str] = (), form: CsvForm | None = None
) -> list[TableRow]:
    """Reads all rows; those in which every cell is missing are skipped.

    Null and NaN are missing cells. If a missing cell has turned a column of integers into decimals (``1.0``), the
    columns of :data:`WHOLE` become integers again.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.txt`` file with a header (see :mod:`merc.corpora.engine.csv_rows`) or a
            ``.parquet`` file.
        columns: role → name of its column, or of several whose cells are joined by ``_``; empty for a role without a
            column.
        may_lack: roles whose named columns need not exist.
        form: format of a CSV file; None: UTF-8 and commas.

    Raises:
        RawDataMissing: if the file does not exist, has another encoding or lacks a column; the message names the
            missing and the existing ones.
        BadTable: if the file is damaged or has no rows, a column occurs twice or contains neither text nor numbers, or
            a joined cell is ambiguous.
    """
    wanted = {role: [names] if isinstance(names, str) else list(names) for role, names in columns.items() if names}
    suffix = path.suffix.lower()
    if suffix not in (*_TEXT_SUFFIXES, ".parquet"):
        raise RawDataMissing(f"{path}: a table is a file whose name ends in {', '.join(_TEXT_SUFFIXES)} or .parquet")
    required = [name for role, names in wanted.items() if role not in may_lack for name in names]
    others = {name for role in may_lack for name in wanted.get(role, [])}
    rows = (
        _read_parquet(path, required, others)
        if suffix == ".parquet"
        else read_rows(path, required, form, may_lack=others)
    )
    if not rows:
        raise BadTable(f"{path}: holds no utterance")
    unit = "row" if suffix == ".parquet" else "line"
    where = [f"{path}, {unit} {row.line}" for row in rows]
    cells = {
        role: _role(role, [[row.cells.get(name, "").strip() for row in rows] for name in wanted.get(role, [])], where)
        for role in columns
    }
    return [
        _row(where[place], {role: cells[role][place] for role in columns}, row.recoded)
        for place, row in enumerate(rows)
    ]


def _row(where: str, cells: dict[str, str], recoded: bool) -> TableRow:
    mended = {role: repair(cells[role]) for role in REPAIRED if not cells.get(role, "").isascii()}
    told = tuple(f"{role}: wrongly decoded: {cells[role]!r}" for role, cell in mended.items() if cell != cells[role])
    return TableRow(where, cells | mended, recoded, told)


def _role(role: str, parts: Sequence[Sequence[str]], where: Sequence[str]) -> list[str]:
    """The cells of a role, from those of its columns."""
    if not parts:
        return [""] * len(where)
    columns = [_whole(cells) if role in WHOLE else list(cells) for cells in parts]
    return columns[0] if len(columns) == 1 else _joined(role, list(zip(*columns, strict=True)), where)


def _whole(cells: Sequence[str]) -> list[str]:
    """Cells without their ``.0``, if all non-empty ones are whole numbers.

    >>> _whole(["1.0", "", "12"]), _whole(["1.0", "1.5"])
    (['1', '', '12'], ['1.0', '1.5'])
    """
    return (
        [cell.removesuffix(".0") for cell in cells]
        if all(_WHOLE_NUMBER.fullmatch(cell) for cell in cells if cell)
        else list(cells)
    )


def _joined(role: str, cells: Sequence[tuple[str, ...]], where: Sequence[str]) -> list[str]:
    """Joins several cells; empty if one of them is, and refused if other cells would give the same result."""
    made_of: dict[str, tuple[str, ...]] = {}
    joined = []
    for parts, place in zip(cells, where, strict=True):
        cell = "_".join(parts) if all(parts) else ""
        if cell and made_of.setdefault(cell, parts) != parts:
            raise BadTable(
                f"{place}: the {role} {cell!r} is made of {parts} here, and of {made_of[cell]} elsewhere; leave out the"
                " _ at the end of a cell"
            )
        joined.append(cell)
    return joined


def _read_parquet(path: Path, required: Sequence[str], others: Collection[str]) -> list[CsvRow]:
    """Rows as from a CSV file: numbers as text, an empty cell for null and NaN."""
    if not path.exists():
        raise RawDataMissing(f"{path}: cannot be read: no such file")
    names = parquet.schema(path).names
    check_columns(names, required, others, path)
    table = parquet.read(path, [name for name in names if name in {*required, *others}])
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_null(kind)
        ):
            raise BadTable(f"{path}: the column {field.name} holds {field.type} instead of text or numbers")
    rows = [
        CsvRow(number, {name: _text(value) for name, value in row.items()}, recoded=False)
        for number, row in enumerate(table.to_pylist(), start=1)
    ]
    for row in rows:
        if any(len(cell) > LARGEST_CELL for cell in row.cells.values()):
            raise BadTable(f"{path}, row {row.line}: a cell has more than {LARGEST_CELL:,} characters")
    return [row for row in rows if any(cell.strip() for cell in row.cells.values())]


def _text(value: str | float | None) -> str:
    return "" if value is None or value != value else str(value)
