"""Shard files: where they are split, and how they are named."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merc.shards.format.schema import per_utterance, quality_columns


def plan_files(bytes_per_dialogue: Sequence[int], max_file_bytes: int) -> list[tuple[int, int]]:
    """Distributes dialogues to files.

    Args:
        bytes_per_dialogue: size of each in memory, an upper bound of its size on disk.
        max_file_bytes: a file ends before the dialogue that would exceed this; a dialogue that is larger by itself gets
            a separate file.

    Returns:
        Half-open spans of dialogues. They are known before anything is written, since a file's name contains the number
        of files.

    Example:
        >>> plan_files([40, 40, 40, 200, 10], 100)
        [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    spans: list[tuple[int, int]] = []
    begin, size = 0, 0
    for index, more in enumerate(bytes_per_dialogue):
        if index > begin and size + more > max_file_bytes:
            spans.append((begin, index))
            begin, size = index, 0
        size += more
    if begin < len(bytes_per_dialogue):
        spans.append((begin, len(bytes_per_dialogue)))
    return spans


def row_bytes(table: pa.Table, dims: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Bytes in memory of each utterance of the manifest ``table``, possibly with columns of an audit, in a shard with
    vectors of the lengths ``dims``.
    """
    size_N = np.full(table.num_rows, sum(4 * dim + 1 for dim in dims), dtype=np.int64)
    for _, source, kind in per_utterance(transcripts=True, quality=quality_columns(table.column_names)):
        if pa.types.is_string(kind):
            size_N += 4 + pc.binary_length(table[source]).to_numpy()
        else:
            size_N += kind.bit_width // 8
    return size_N


def file_name(split: str, index: int, count: int) -> str:
    """Name of a shard file; Hugging Face ``datasets`` reads the split from it.

    >>> file_name("train", 0, 3)
    'train-00000-of-00003.parquet'
    """
    return f"{split}-{index:05d}-of-{count:05d}.parquet"
