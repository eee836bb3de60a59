"""The feature tables: one vector per utterance. ``part-NNNNN.parquet``, rows in manifest order."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from merc import files
from merc.errors import BadTable, PipelineError
from merc.job import Job
from merc.records import failures

OK = "ok"
FAILURES = "failures.parquet"  # beside the parts: the failure rows of the stage that wrote them


def schema(dim: int) -> pa.Schema:
    """Columns of a feature table with vectors of length ``dim``."""
    return pa.schema(
        [
            pa.field("utterance_id", pa.string(), nullable=False),
            pa.field("embedding", vectors_type(dim), nullable=False),  # zeros where absent, never null
            pa.field("present", pa.bool_(), nullable=False),
            pa.field("status", pa.string(), nullable=False),  # "ok", or why it is absent
        ]
    )


def vectors_type(dim: int) -> pa.DataType:
    """Fixed-size list of float32 without nulls: the one vector type that every reader opens (pyarrow, pandas, polars, DuckDB, datasets, Ray)."""
    return pa.list_(pa.field("element", pa.float32(), nullable=False), dim)


def vectors(values: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """(n, dim) float32 as an Arrow column."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=vectors_type(values.shape[1]))


def write(path: Path, table: pa.Table, row_group_rows: int | None = None) -> None:
    """Writes a table that holds vectors as one Parquet file, whole or not at all.

    A table without rows becomes a file without row groups: Hugging Face ``datasets`` fails on a row group without rows.

    Args:
        path: the file.
        table: its content.
        row_group_rows: rows per row group; by default all rows are one.

    Raises:
        PipelineError: if it cannot be written (a full disk); what was at ``path`` before is still there.
    """
    with _writing(path, table.schema) as writer:
        if table.num_rows:
            writer.write_table(table, row_group_size=row_group_rows)


def write_groups(path: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """Like :func:`write`, with each of ``groups`` as a row group; only one of them is in memory at a time.

    Raises:
        PipelineError: if it cannot be written; what was at ``path`` before is still there, also if ``groups`` fails.
    """
    with _writing(path, schema) as writer:
        for table in groups:
            writer.write_table(table)


@contextmanager
def _writing(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    try:
        with files.replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **parquet_options(schema)) as writer:
            yield writer
    except OSError as error:
        raise PipelineError(f"{path} cannot be written: {error}. Nothing half-written was left there; run again once the cause is gone.") from error


def write_failures(job: Job, parts: int, utterances: int, max_failed: str) -> pa.Table:
    """Writes the failure rows of all parts of a job beside them, where these are few enough.

    Args:
        job: whose parts are done.
        parts: how many there are.
        utterances: how many it handled.
        max_failed: see :func:`merc.records.failures.check_limit`.

    Returns:
        The rows.

    Raises:
        TooManyFailures: if more utterances are broken; the parts are kept.
    """
    rows = job.failures(parts)
    failures.check_limit(rows, utterances, max_failed, job.name)
    table = failures.table(rows)
    write(job.folder / FAILURES, table)
    return table


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file for reading; ``options`` are those of ``pyarrow.parquet.ParquetFile``.

    Raises:
        BadTable: if it is no Parquet file, or turns out to be cut or damaged while the block reads it.
    """
    try:
        with pq.ParquetFile(path, **options) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise BadTable(f"{path}: not a Parquet file, or a damaged one: {error}") from error


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """Keyword arguments of ``pyarrow.parquet.ParquetWriter`` for such tables.

    Byte-stream split is for the float leaves and a dictionary for the strings alone: on vectors a dictionary costs time
    and saves nothing, and DuckDB cannot read byte-stream split on anything but floats.
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
