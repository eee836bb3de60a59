"""Reading shards: a split in order, one dialogue by id, the vectors of a column as arrays."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import files
from pipeline.corpora.dialogue import SPLITS
from pipeline.errors import BadTable
from pipeline.plugins import nearest
from pipeline.shards.schema import SCHEMA_VERSION


def splits(root: Path) -> list[str]:
    """The splits there are, in the order train, dev, test."""
    return [split for split in SPLITS if _files(root, split)]


def read_split(root: Path, split: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a split: one row per dialogue, in order (columns: :mod:`pipeline.shards.schema`).

    Args:
        root: folder of the shards.
        split: ``train``, ``dev`` or ``test``.
        columns: only these; None for all.

    Raises:
        BadTable: if there is no such split or column, or a file is no shard of this schema version.
    """
    paths = _files(root, split)
    if not paths:
        raise BadTable(f"{root}: no split {split!r}; {nearest(split, splits(root))}")
    return pa.concat_tables([_read(path, columns) for path in paths])


def dialogue(root: Path, dialogue_id: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The one row of a dialogue.

    Args:
        root: folder of the shards.
        dialogue_id: such as ``train/dia0``.
        columns: only these; None for all.

    Raises:
        BadTable: if there is no such dialogue; the message gives the nearest id.
    """
    split = dialogue_id.partition("/")[0]
    known: list[str] = []
    for path in _files(root, split):
        ids = _read(path, ["dialogue_id"])["dialogue_id"].to_pylist()
        if dialogue_id in ids:
            return _read(path, columns).slice(ids.index(dialogue_id), 1)
        known += ids
    close = nearest(dialogue_id, known) if len(known) <= 20 else nearest(dialogue_id, known).partition("valid:")[0] + f"there are {len(known)} in {split}"
    raise BadTable(f"{root}: no dialogue {dialogue_id!r}; {close}")


def info(root: Path) -> dict[str, Any]:
    """``meta/info.json``: ``classes``, ``dims``, ``modalities``, ``encoders``, ``counts``, the fingerprint and more.

    Raises:
        BadTable: if it is missing, or of another schema version.
    """
    path = root / "meta" / "info.json"
    if not path.is_file():
        raise BadTable(f"{root}: these are no shards: there is no meta/info.json")
    found: dict[str, Any] = files.read_json(path)
    _check_version(path, found)
    return found


def stats(root: Path) -> dict[str, Any]:
    """``meta/stats.json``: modality → ``count``, ``mean``, ``std``; per feature, over the present utterances of the train split.

    A feature that never varies has ``std`` 0; without a train split all are 0.

    Raises:
        BadTable: if it is missing.
    """
    path = root / "meta" / "stats.json"
    if not path.is_file():
        raise BadTable(f"{root}: these are no shards: there is no meta/stats.json")
    found: dict[str, Any] = files.read_json(path)
    return found


def vectors_of(column: pa.ChunkedArray | pa.Array) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The vectors of all utterances of a column such as ``text``.

    Args:
        column: list of fixed-size lists of float32, one entry per dialogue.

    Returns:
        values: float32 [N, D], utterances of all dialogues in order; read-only, without a copy if the column is one chunk.
        offsets: int64 [dialogues + 1]; dialogue i holds ``values[offsets[i] : offsets[i + 1]]``.

    Raises:
        BadTable: if the column is of another type or holds nulls.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    kind = column.type
    if not (pa.types.is_list(kind) and pa.types.is_fixed_size_list(kind.value_type) and kind.value_type.value_type == pa.float32()):
        raise BadTable(f"not a column of vectors: {kind}")
    offsets = column.offsets.to_numpy().astype(np.int64)
    inner = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    flat = inner.flatten()
    if column.null_count or inner.null_count or flat.null_count:
        raise BadTable("a column of vectors holds nulls")
    return flat.to_numpy(zero_copy_only=True).reshape(-1, kind.value_type.list_size), offsets - offsets[0]


def _files(root: Path, split: str) -> list[Path]:
    return sorted((root / "dialogues").glob(f"{split}-*-of-*.parquet")) if split in SPLITS else []


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
            if b"merc" not in metadata:
                raise BadTable(f"{path}: no shard: the key 'merc' is missing in its metadata")
            _check_version(path, json.loads(metadata[b"merc"]))
            strange = [name for name in columns or () if name not in file.schema_arrow.names]
            if strange:
                raise BadTable(f"{path}: no column {strange[0]!r}; {nearest(strange[0], file.schema_arrow.names)}")
            return file.read(columns=None if columns is None else list(columns))
    except pa.ArrowInvalid as error:
        raise BadTable(f"{path}: not a Parquet file: {error}") from error


def _check_version(path: Path, facts: dict[str, Any]) -> None:
    version = facts.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BadTable(f"{path}: schema version {version!r}, this program reads {SCHEMA_VERSION!r}")
