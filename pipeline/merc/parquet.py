"""Parquet files: written completely or not at all, with a checksum in every page that is verified on every read.

Other modules do not import ``pyarrow.parquet``: by default it neither writes nor verifies checksums, and then a changed
byte inside a page of floats goes unnoticed (246 of 300 bursts of 1 to 64 bytes).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from merc import files
from merc.errors import BadTable, nearest

FileMetaData = pq.FileMetaData
ParquetFile = pq.ParquetFile
# What pyarrow raises for damaged bytes: its own errors, some of which are also a ValueError, NotImplementedError,
# KeyError or TypeError; UnicodeDecodeError and OverflowError if a length or a name is nonsense; MemoryError if a length
# is a large number.
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError)


def write(path: Path, table: pa.Table, row_group_rows: int | None = None, **options: Any) -> None:
    """Writes a table as one file, completely or not at all.

    A table without rows becomes a file without row groups: Hugging Face ``datasets`` fails on a row group without rows.

    Args:
        path: the file.
        table: its content.
        row_group_rows: rows per row group; by default, all rows form one group.
        options: of ``pyarrow.parquet.ParquetWriter``, instead of those of :func:`options_for`.

    Raises:
        CannotWrite: if it cannot be written (a full disk); what was at ``path`` before is kept.
    """
    with _replacing(path, table.schema, options) as writer:
        if table.num_rows:
            writer.write_table(table, row_group_size=row_group_rows)


def write_groups(path: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """Like :func:`write`, with each of ``groups`` as a row group; only one of them is in memory at a time.

    Raises:
        CannotWrite: if it cannot be written; what was at ``path`` before is kept, even if ``groups`` fails.
    """
    with _replacing(path, schema, {}) as writer:
        for table in groups:
            writer.write_table(table)


def writer(path: Path, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """Writes row groups to a file that is in a folder which is not yet in place."""
    return pq.ParquetWriter(path, schema, **(options or options_for(schema)), write_page_checksum=True)


@contextmanager
def _replacing(path: Path, schema: pa.Schema, options: dict[str, Any]) -> Iterator[pq.ParquetWriter]:
    with files.replacing(path) as temporary, writer(temporary, schema, **options) as made:
        yield made


def options_for(schema: pa.Schema) -> dict[str, Any]:
    """Keyword arguments of ``pyarrow.parquet.ParquetWriter`` for tables that hold vectors.

    Byte-stream split is used for float leaves and a dictionary only for strings: for vectors a dictionary costs time
    and saves nothing, and DuckDB can read byte-stream split only for floats.
    """
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    strings = [path for path, kind in leaves if pa.types.is_string(kind)]
    # DuckDB cannot read float16 with byte-stream split.
    floats = [path for path, kind in leaves if pa.types.is_floating(kind) and not pa.types.is_float16(kind)]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": strings or False,
        "use_byte_stream_split": floats or False,
        "write_page_index": True,
    }


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Parquet paths of a column's leaves with their types: ``text.list.element.list.element``, float."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[pq.ParquetFile]:
    """Opens a file for reading; ``options`` are those of ``pyarrow.parquet.ParquetFile``.

    Raises:
        BadTable: if it is not a Parquet file, or turns out to be truncated or damaged while the block reads it.
    """
    with _told(path), pq.ParquetFile(path, page_checksum_verification=True, **options) as file:
        yield file


def read(
    paths: Path | Sequence[Path], columns: Sequence[str] | None = None, filters: pc.Expression | None = None
) -> pa.Table:
    """Reads one file, or several of one schema.

    Args:
        paths: the files.
        columns: only these; None for all.
        filters: only the rows for which this holds.

    Raises:
        BadTable: if one of them is missing, not a Parquet file, truncated or damaged, or lacks one of ``columns``.
    """
    wanted = None if columns is None else list(columns)
    if wanted:
        first = paths if isinstance(paths, Path) else paths[0]
        _check_columns(wanted, schema(first), first)
    with _told(paths):
        return pq.read_table(paths, columns=wanted, filters=filters, page_checksum_verification=True)


def read_span(path: Path, columns: Sequence[str], start: int, stop: int) -> pa.Table:
    """Reads the rows ``start`` to ``stop`` (half-open) of a file; only the row groups that hold them are decoded.

    Raises:
        BadTable: as :func:`read`.
    """
    with opened(path) as file:
        _check_columns(columns, file.schema_arrow, path)
        ends = np.cumsum([file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)])
        first, last = np.searchsorted(ends, start, side="right"), np.searchsorted(ends, stop, side="left")
        before = int(ends[first - 1]) if first else 0
        return file.read_row_groups(list(range(int(first), int(last) + 1)), columns=list(columns)).slice(
            start - before, stop - start
        )


def _check_columns(wanted: Iterable[str], there: pa.Schema, path: Path) -> None:
    for name in wanted:
        if name not in there.names:
            raise BadTable(f"{path}: no column {name!r}; {nearest(name, there.names)}")


def schema(path: Path) -> pa.Schema:
    """The columns and the metadata of a file. Raises ``BadTable`` as :func:`read`."""
    with _told(path):
        return pq.read_schema(path)


def rows(path: Path) -> int:
    """The number of rows according to a file's footer. Raises ``BadTable`` as :func:`read`."""
    with _told(path):
        return int(pq.read_metadata(path).num_rows)


@contextmanager
def _told(paths: Path | Sequence[Path]) -> Iterator[None]:
    try:
        for path in [paths] if isinstance(paths, Path) else paths:
            files.check_kind(path)
        yield
    except _DAMAGE as error:
        where = paths if isinstance(paths, Path) else ", ".join(str(path) for path in paths)
        words = (
            "no such file" if isinstance(error, FileNotFoundError) else f"not a Parquet file, or a damaged one: {error}"
        )
        raise BadTable(f"{where}: {words}") from error
