"""Dialogues of a decoded row group as numpy arrays, and padded batches of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc.errors import BadTable

LENGTH = "n_utterances"
PADDING = {"emotion_index": -1}  # like utterances outside the label set; zero or False in all other columns


def vectors_of(column: pa.ChunkedArray | pa.Array) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The vectors of all utterances of a column such as ``text``.

    Args:
        column: list of fixed-size lists of float32, one entry per dialogue.

    Returns:
        values: float32 [N, D], utterances of all dialogues in order; read-only, without a copy if the column is one
        chunk.
        offsets: int64 [dialogues + 1]; dialogue i holds ``values[offsets[i] : offsets[i + 1]]``.

    Raises:
        BadTable: if the column has another type or contains nulls.
    """
    column = _one_chunk(column)
    kind = column.type
    if not _holds_vectors(kind):
        raise BadTable(f"not a column of vectors: {kind}")
    inner, offsets = _inner(column)
    flat = inner.flatten()
    if column.null_count or inner.null_count or flat.null_count:
        raise BadTable("a column of vectors holds nulls")
    return flat.to_numpy(zero_copy_only=True).reshape(-1, kind.value_type.list_size), offsets


class DecodedGroup:
    """The dialogues of one row group.

    Args:
        table: its rows, ``n_utterances`` among the columns.
        where: description of the place, for messages.

    Raises:
        BadTable: if the lists of a dialogue differ in length, or a column contains nulls that must not.
    """

    def __init__(self, table: pa.Table, where: str) -> None:
        lengths = table[LENGTH].to_numpy().astype(np.int64)
        self.offsets = np.r_[0, np.cumsum(lengths)]
        self.scalars: dict[str, Sequence[Any]] = {}
        self.lists: dict[str, NDArray[Any] | list[str]] = {}
        for name in table.column_names:
            column = _one_chunk(table[name])
            if not pa.types.is_list(column.type):
                self.scalars[name] = column.to_pylist()
                continue
            try:
                values, offsets = _values(column)
            except BadTable as error:
                raise BadTable(f"{where}, column {name}: {error}") from error
            if not np.array_equal(offsets, self.offsets):
                wrong = int(np.flatnonzero(np.diff(offsets) != lengths)[0])
                raise BadTable(
                    f"{where}: row {wrong} has {lengths[wrong]} utterances and {np.diff(offsets)[wrong]} entries in"
                    f" {name}"
                )
            self.lists[name] = values

    def row(self, index: int, columns: Sequence[str]) -> dict[str, Any]:
        """One dialogue of T utterances: float32 [T, D] and [T] arrays (views of the row group), lists of T strings,
        strings and numbers.
        """
        span = slice(self.offsets[index], self.offsets[index + 1])
        return {name: self.lists[name][span] if name in self.lists else self.scalars[name][index] for name in columns}


def padded(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of B dialogues, of which the longest has T utterances.

    Args:
        rows: see :meth:`DecodedGroup.row`, ``n_utterances`` among the columns.

    Returns:
        The same columns: vectors float32 [B, T, D] and numbers and flags [B, T], padded with zeros, ``emotion_index``
        with -1; lists of B entries for strings; numbers of a dialogue int64 [B]. In addition ``mask``, bool [B, T],
        true for utterances.
    """
    lengths_B = np.array([row[LENGTH] for row in rows], dtype=np.int64)
    longest = int(lengths_B.max())
    batch: dict[str, Any] = {}
    for name, first in rows[0].items():
        if isinstance(first, np.ndarray):
            batch[name] = np.full((len(rows), longest, *first.shape[1:]), PADDING.get(name, 0), first.dtype)
            for index, row in enumerate(rows):
                batch[name][index, : lengths_B[index]] = row[name]
        else:
            batch[name] = (
                np.array([row[name] for row in rows]) if isinstance(first, int) else [row[name] for row in rows]
            )
    batch["mask"] = np.arange(longest) < lengths_B[:, None]
    return batch


def _one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _inner(column: pa.ListArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """The elements of a list column or of a slice of one, and where each entry starts among them."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    return column.values.slice(offsets[0], offsets[-1] - offsets[0]), offsets - offsets[0]


def _holds_vectors(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        and pa.types.is_fixed_size_list(kind.value_type)
        and kind.value_type.value_type == pa.float32()
    )


def _values(column: pa.ListArray) -> tuple[NDArray[Any] | list[str], NDArray[np.int64]]:
    """The elements of a list column: an array (null numbers are NaN), or a list of strings."""
    if _holds_vectors(column.type):
        return vectors_of(column)
    inner, offsets = _inner(column)
    if inner.null_count and not pa.types.is_floating(inner.type):
        raise BadTable(f"{inner.null_count} null values")
    return inner.to_pylist() if pa.types.is_string(inner.type) else inner.to_numpy(zero_copy_only=False), offsets
