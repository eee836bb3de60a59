"""The tables of sequences, kept on request: the sequence that a vector was pooled from, for models that fuse below the
utterance.

``sequences/part-NNNNN.parquet`` next to the feature tables, with the same rows: tokens, 20 ms of audio, face crops.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc import parquet
from merc.encoders.engine.base import EncodedSequence
from merc.errors import BadTable

FOLDER = "sequences"
# About 40 MB of 20 ms frames with 768 numbers; a reader takes one row group at a time.
_ROW_GROUP_UTTERANCES = 256


def schema(dim: int) -> pa.Schema:
    """Columns of a table of sequences whose vectors have ``dim`` numbers. In float16, 12 hours of 20 ms frames with 768
    numbers take 3.3 GB.
    """
    return pa.schema(
        [
            pa.field("utterance_id", pa.string(), nullable=False),
            pa.field(
                "sequence",
                pa.list_(
                    pa.field(
                        "element", pa.list_(pa.field("element", pa.float16(), nullable=False), dim), nullable=False
                    )
                ),
                nullable=False,
            ),
            pa.field(
                "sequence_seconds", pa.list_(pa.field("element", pa.float32(), nullable=False)), nullable=False
            ),  # none for tokens
        ]
    )


def table(utterance_ids: Sequence[str], given: Sequence[EncodedSequence | None], dim: int) -> pa.Table:
    """The table of a part; the sequence of an utterance without a vector is empty.

    Raises:
        BadTable: if vectors are not ``dim`` numbers long, or times and vectors differ in their number.
    """
    there = [one for one in given if one is not None]
    if strange := {one.vectors.shape[1] for one in there} - {dim}:
        raise BadTable(f"sequences of vectors of {sorted(strange)} numbers, where the encoder states {dim}")
    if any(len(one.seconds) not in (0, len(one.vectors)) for one in there):
        raise BadTable("vectors and their times differ in number")
    kind = schema(dim)
    flat = (
        np.concatenate([one.vectors.astype(np.float16, copy=False) for one in there])
        if there
        else np.zeros((0, dim), np.float16)
    )
    elements = pa.FixedSizeListArray.from_arrays(
        pa.array(flat.reshape(-1)), type=kind.field("sequence").type.value_type
    )
    seconds = (
        np.concatenate([one.seconds.astype(np.float32, copy=False) for one in there])
        if there
        else np.zeros(0, np.float32)
    )
    return pa.table(
        [
            pa.array(utterance_ids, pa.string()),
            pa.ListArray.from_arrays(
                _offsets([0 if one is None else len(one.vectors) for one in given]),
                elements,
                type=kind.field("sequence").type,
            ),
            pa.ListArray.from_arrays(
                _offsets([0 if one is None else len(one.seconds) for one in given]),
                pa.array(seconds),
                type=kind.field("sequence_seconds").type,
            ),
        ],
        schema=kind,
    )


def _offsets(counts: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))


def path_of(part: Path) -> Path:
    """Path of the table of sequences of a part."""
    return part.parent / FOLDER / part.name


def read(folder: Path) -> Iterator[tuple[str, NDArray[np.float16], NDArray[np.float32]]]:
    """The sequence of every utterance, in manifest order; one row group is in memory at a time.

    Args:
        folder: folder of one encoder's features, such as ``features/meld/audio/wav2vec2_base``.

    Yields:
        utterance id, (length, dim) float16 (no rows if the vector is absent), (length,) float32 seconds or (0,) for
        tokens.

    Raises:
        BadTable: if there are no sequences; they are kept with ``--level sequences``.
    """
    paths = sorted((folder / FOLDER).glob("part-*.parquet"))
    if not paths:
        raise BadTable(f"{folder}: no sequences were kept; run the extraction with --level sequences")
    for path in paths:
        with parquet.opened(path) as file:
            dim = file.schema_arrow.field("sequence").type.value_type.list_size
            for group in range(file.num_row_groups):
                yield from _of_group(file.read_row_group(group).combine_chunks(), dim)


def _of_group(rows: pa.Table, dim: int) -> Iterator[tuple[str, NDArray[np.float16], NDArray[np.float32]]]:
    values, seconds = rows["sequence"].chunk(0), rows["sequence_seconds"].chunk(0)
    vectors, times = values.flatten().flatten().to_numpy().reshape(-1, dim), seconds.flatten().to_numpy()
    ends, time_ends = np.cumsum(values.value_lengths().to_numpy()), np.cumsum(seconds.value_lengths().to_numpy())
    for row, utterance_id in enumerate(rows["utterance_id"].to_pylist()):
        begin, time_begin = (0, 0) if row == 0 else (ends[row - 1], time_ends[row - 1])
        yield utterance_id, vectors[begin : ends[row]], times[time_begin : time_ends[row]]


def write(part: Path, content: pa.Table) -> None:
    """Writes the table of sequences of a part, completely or not at all. Raises ``PipelineError`` as
    :func:`merc.records.features.write`.
    """
    parquet.write(path_of(part), content, row_group_rows=_ROW_GROUP_UTTERANCES)
