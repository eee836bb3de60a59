"""Rows of a CSV file as found in the wild: with or without a byte order mark, with any line endings, cp1252 in places.
Each row has its line number.
"""

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import field_validator

from merc.corpora.engine.base import CorpusConfig
from merc.corpora.engine.text_lines import Encoding, read_lines
from merc.errors import BadTable, RawDataMissing

LARGEST_CELL = 16 * 2**20
"""Characters; a larger cell is most likely the rest of the file after an unclosed quotation mark."""

_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
"""Delimiters in use → their names in the setting: most of the characters mean something else in a shell and in YAML."""


class CsvConfig(CorpusConfig):
    """Settings of a corpus whose annotations are CSV files."""

    delimiter: str = ","
    """Separator between the columns of a CSV file: one character, or its name: ``comma``, ``semicolon``, ``tab``,
    ``pipe``.
    """

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, delimiter: str) -> str:
        by_name = {name: character for character, name in _DELIMITERS.items()} | {"\\t": "\t"}
        delimiter = by_name.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise ValueError(f"expected one character, or one of the words {', '.join(_DELIMITERS.values())}")
        return delimiter


@dataclass(frozen=True)
class CsvForm:
    """The format of a CSV file.

    Attributes:
        encoding: of its text.
        delimiter: separator of two columns.
        key: dotted key of the setting of the delimiter, for messages.
    """

    encoding: Encoding = field(default_factory=Encoding)
    delimiter: str = ","
    key: str = "corpora.<dataset>.delimiter"


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row.

    Attributes:
        line: the line of the file on which it starts, from 1.
        cells: column name → cell, unchanged.
        recoded: True if a line of the row was not UTF-8 and was read as cp1252.
    """

    line: int
    cells: dict[str, str]
    recoded: bool

    def whole_number(self, column: str, path: Path) -> int:
        """A non-negative integer in a cell; anything else would become part of ids and paths.

        Raises:
            BadTable: the message names file, line and cell.
        """
        cell = self.cells[column].strip()
        if not _WHOLE_NUMBER.fullmatch(cell):
            raise BadTable(f"{path}, line {self.line}: {column} is {cell!r} instead of a number from 0")
        return int(cell)


def read_rows(
    path: Path, columns: Sequence[str], form: CsvForm | None = None, *, may_lack: Collection[str] = ()
) -> list[CsvRow]:
    """Reads a CSV file with a header; empty lines and lines of only commas are skipped.

    Args:
        path: the file.
        columns: names that the header must contain, in any order; there may be others.
        form: format of the file; None: UTF-8 and commas.
        may_lack: further columns that are read if the header contains them.

    Raises:
        RawDataMissing: if the file cannot be opened, has another encoding or delimiter, or columns are missing; the
            message names them.
        BadTable: if a column that is read occurs twice, a line has too few or too many cells, a quoted cell does not
            end or a cell exceeds :data:`LARGEST_CELL`; the message names file and line.
    """
    form = form or CsvForm()
    decoded = read_lines(path, form.encoding)
    rows: list[CsvRow] = []
    header: list[str] | None = None
    with _cells_up_to(LARGEST_CELL):
        for begin, end, cells in _parsed([text for text, _ in decoded], form.delimiter, path):
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_delimiter(header, columns, form, path)
                check_columns(header, columns, may_lack, path)
            elif len(cells) != len(header):
                raise BadTable(f"{path}, line {begin + 1}: {len(cells)} cells instead of {len(header)}")
            else:
                recoded = any(by_cp1252 for _, by_cp1252 in decoded[begin:end])
                rows.append(CsvRow(begin + 1, dict(zip(header, cells, strict=True)), recoded))
    if header is None:
        raise RawDataMissing(f"{path}: the file is empty")
    return rows


def check_columns(names: Sequence[str], required: Sequence[str], may_lack: Collection[str], path: Path) -> None:
    """Compares the columns of a table with those that are read.

    Raises:
        RawDataMissing: if required ones are missing.
        BadTable: if one that is read occurs more than once, since it is unknown which one is meant.
    """
    missing = [name for name in dict.fromkeys(required) if name not in names]
    if missing:
        raise RawDataMissing(f"{path}: the columns {', '.join(missing)} are missing; there are {', '.join(names)}")
    for name, count in Counter(names).items():
        if count > 1 and name in {*required, *may_lack}:
            places = [str(place) for place, one in enumerate(names, start=1) if one == name]
            raise BadTable(
                f"{path}: columns {' and '.join(places)} are both called {name!r}; rename the one that should not be"
                " read"
            )


def _check_delimiter(header: Sequence[str], columns: Sequence[str], form: CsvForm, path: Path) -> None:
    """Raises ``RawDataMissing`` if another delimiter would yield required columns that this one does not."""
    line = form.delimiter.join(header)
    for other, written in _DELIMITERS.items():
        names = {name.strip() for name in next(csv.reader([line], delimiter=other), [])}
        more = len(names & set(columns)) > len(set(header) & set(columns))
        if other != form.delimiter and (more or len(header) == 1 < len(names)):
            raise RawDataMissing(
                f"{path}: the columns are separated by {_named(other)}, not by {_named(form.delimiter)}: set"
                f" {form.key}={written}. The header is {line!r}"
            )


def _named(delimiter: str) -> str:
    return "tabs" if delimiter == "\t" else repr(delimiter)


@contextmanager
def _cells_up_to(characters: int) -> Iterator[None]:
    """Raises the limit of the csv module, which applies to the whole process, while a file is read."""
    before = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parsed(lines: Sequence[str], delimiter: str, path: Path) -> Iterator[tuple[int, int, list[str]]]:
    """Start, end (lines from 0, half-open) and cells of every non-empty row."""
    # strict: a file that ends inside a quoted cell was truncated, and must not pass for a complete one.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    end = 0
    try:
        for cells in reader:
            begin, end = end, reader.line_num
            if any(cell.strip() for cell in cells):
                yield begin, end, cells
    except csv.Error as error:
        if "field limit" in str(error):
            told = f"a cell has more than {LARGEST_CELL:,} characters; is there an unclosed quotation mark?"
            raise BadTable(f"{path}, line {end + 1}: {told}") from error
        raise BadTable(f"{path}, line {reader.line_num}: not CSV: {error}") from error
