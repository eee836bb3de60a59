"""Tables of the shards as streams: the files of a split, and their rows one row group at a time, so that memory does
not grow with the corpus.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merc import parquet
from merc.errors import BadTable
from merc.shards.format.schema import SCHEMA_VERSION, may_be_null

TABLES = ("dialogues", "trajectories", "failures")  # the first is the default of load_dataset


def files_of(root: Path, table: str, split: str) -> list[Path]:
    """The Parquet files of a split of ``dialogues``, ``trajectories`` or ``failures``, in order."""
    return sorted((root / table).glob(f"{split}-*-of-*.parquet"))


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[parquet.ParquetFile]:
    """Opens a table of the shards; ``options`` are those of ``pyarrow.parquet.ParquetFile``.

    Raises:
        BadTable: if it is missing, not a Parquet file, damaged where the block reads it, or not of this schema version.
    """
    with parquet.opened(path, **options) as file:
        facts = merc(file.schema_arrow)
        if not facts:
            raise BadTable(f"{path}: not a table of shards: the key 'merc' is missing in its metadata")
        check_version(path, facts)
        yield file


def check_version(path: Path, facts: Mapping[str, Any]) -> None:
    """Raises ``BadTable`` if ``facts``, found at ``path``, have a schema version that this program cannot read."""
    version = facts.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BadTable(f"{path}: schema version {version!r}, this program reads {SCHEMA_VERSION!r}")


def merc(schema: pa.Schema) -> dict[str, Any]:
    """A table's metadata under the key ``merc``; empty if there is none that can be read."""
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


def without_nulls(rows: pa.Table, path: Path) -> pa.Table:
    """The same rows, after checking that nothing is null that must not be. Otherwise raises ``BadTable``; the message
    names the file and the column.
    """
    for name in (name for name in rows.column_names if not may_be_null(name)):
        found = rows[name]
        nulls = found.null_count + (pc.list_flatten(found).null_count if pa.types.is_list(found.type) else 0)
        if nulls:
            raise BadTable(f"{path}: column {name}: {nulls} null values")
    return rows


def with_equal_lists(rows: pa.Table, path: Path) -> pa.Table:
    """The same rows, after checking that the lists of each dialogue have the same length, since later code takes
    entries by position.

    Raises:
        BadTable: the message names the file, the first dialogue (or its row in the row group) and the column.
    """
    wanted_K = rows["n_utterances"].to_numpy() if "n_utterances" in rows.column_names else None
    for name in rows.column_names:
        if pa.types.is_list(rows[name].type):
            found_K = pc.fill_null(pc.list_value_length(rows[name]), -1).to_numpy()
            wanted_K = found_K if wanted_K is None else wanted_K
            wrong = np.flatnonzero(found_K != wanted_K)
            if len(wrong):
                row = int(wrong[0])
                dialogue = rows["dialogue_id"][row].as_py() if "dialogue_id" in rows.column_names else f"row {row}"
                raise BadTable(f"{path}: {dialogue}: {found_K[row]} entries in {name} for {wanted_K[row]} utterances")
    return rows
