"""Rows of a CSV file as found in the wild: with or without a byte order mark, any line ends, cp1252 in places, each with its line number."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from merc.corpora.engine import text_repair
from merc.errors import BadTable, RawDataMissing

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class CsvRow:
    """One row.

    Attributes:
        line: the line of the file it begins on, from 1.
        cells: column name → cell, as it stands in the file.
        recoded: True if a line of the row was no UTF-8 and was read as cp1252.
    """

    line: int
    cells: dict[str, str]
    recoded: bool


def read_rows(path: Path, columns: Sequence[str]) -> list[CsvRow]:
    """Reads a CSV file with a header; empty lines and lines of commas alone are passed over.

    Args:
        path: the file.
        columns: names that the header must hold; others may stand beside them, in any order.

    Raises:
        RawDataMissing: if the file cannot be opened or columns are missing; the message names them.
        BadTable: if a line has too few or too many cells, or a quoted cell does not end; the message names file and line.
    """
    try:
        lines = path.read_bytes().removeprefix(_BYTE_ORDER_MARK).splitlines(keepends=True)
    except OSError as error:
        raise RawDataMissing(f"{path}: cannot be read: {error}") from error
    decoded = [text_repair.decode(line) for line in lines]
    rows: list[CsvRow] = []
    header: list[str] | None = None
    for begin, end, cells in _parsed([text for text, _ in decoded], path):
        if header is None:
            header = _header(cells, columns, path)
        elif len(cells) != len(header):
            raise BadTable(f"{path}, line {begin + 1}: {len(cells)} cells instead of {len(header)}")
        else:
            recoded = any(by_cp1252 for _, by_cp1252 in decoded[begin:end])
            rows.append(CsvRow(begin + 1, dict(zip(header, cells, strict=True)), recoded))
    if header is None:
        raise RawDataMissing(f"{path}: the file is empty")
    return rows


def _header(cells: Sequence[str], columns: Sequence[str], path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    missing = [name for name in columns if name not in names]
    if missing:
        raise RawDataMissing(f"{path}: the columns {', '.join(missing)} are missing; there are {', '.join(names)}")
    return names


def _parsed(lines: Sequence[str], path: Path) -> Iterator[tuple[int, int, list[str]]]:
    """Begin, end (lines from 0, half-open) and cells of every row that holds anything."""
    # strict: a file that ends inside a quoted cell was cut off, and must not pass for a whole one.
    reader = csv.reader(lines, strict=True)
    end = 0
    try:
        for cells in reader:
            begin, end = end, reader.line_num
            if any(cell.strip() for cell in cells):
                yield begin, end, cells
    except csv.Error as error:
        raise BadTable(f"{path}, line {reader.line_num}: not CSV: {error}") from error
