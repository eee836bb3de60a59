"""Tables of the shards as a stream: the files of a split, and their rows one row group at a time, so that memory does not grow with the corpus."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import BadTable
from pipeline.shards.schema import SCHEMA_VERSION

TABLES = ("dialogues", "trajectories", "failures")  # the first is the default of load_dataset


def files_of(root: Path, table: str, split: str) -> list[Path]:
    """The Parquet files of a split of ``dialogues``, ``trajectories`` or ``failures``, in order."""
    return sorted((root / table).glob(f"{split}-*-of-*.parquet"))


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Opens a table of the shards.

    Raises:
        BadTable: if it is missing, no Parquet file, damaged where the block reads it, or not of this schema version.
    """
    try:
        with pq.ParquetFile(path) as file:
            facts = merc(file.schema_arrow)
            if not facts:
                raise BadTable(f"{path}: no table of shards: the key 'merc' is missing in its metadata")
            version = facts.get("schema_version")
            if version != SCHEMA_VERSION:
                raise BadTable(f"{path}: schema version {version!r}, this program reads {SCHEMA_VERSION!r}")
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise BadTable(f"{path}: not a Parquet file, or damaged: {error}") from error


def merc(schema: pa.Schema) -> dict[str, Any]:
    """What a table says of itself under the key ``merc``; empty if it says nothing that can be read."""
    try:
        facts = json.loads((schema.metadata or {}).get(b"merc", b"{}"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def row_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a file, one row group at a time.

    Args:
        path: a table of the shards.
        columns: only these; None for all.

    Raises:
        BadTable: as :func:`opened`.
    """
    with opened(path) as file:
        for index in range(file.num_row_groups):
            yield file.read_row_group(index, columns=None if columns is None else list(columns))


def column(rows: pa.Table, name: str) -> pa.Array:
    """A column in one piece."""
    found = rows[name]
    return found.chunk(0) if found.num_chunks == 1 else found.combine_chunks()
