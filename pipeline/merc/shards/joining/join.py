"""Joins manifest and vectors to dialogue rows.

manifest:  u0 u1 u2 │ u3 u4 │ u5 …      one row per utterance, dialogues contiguous
offsets:   0         3       5          shared by all list columns
shards:    [u0 u1 u2]  [u3 u4]  …       one row per dialogue
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc.errors import BadTable
from merc.records import manifest
from merc.records.feature_parts import Vectors
from merc.records.features import vectors
from merc.shards.format import schema as shards_schema


def join(table: pa.Table, features: Mapping[str, Vectors], schema: pa.Schema) -> pa.Table:
    """Joins whole dialogues with their vectors.

    Args:
        table: N rows of the manifest: whole dialogues, in order; with the audit columns in the schema.
        features: modality → vectors of the same N utterances in the same order.
        schema: see :func:`merc.shards.format.schema.schema`.

    Returns:
        One row per dialogue.

    Raises:
        BadTable: if a modality has another number of vectors, or vectors of another length than in the schema.
    """
    bounds = manifest.dialogue_bounds(table)
    starts = np.array([start for start, _ in bounds], dtype=np.int32)
    offsets = np.r_[starts, np.int32(table.num_rows)].astype(np.int32)
    columns: dict[str, pa.Array] = {
        name: table[name].combine_chunks().take(pa.array(starts))
        for name in ("corpus", "split", "dialogue_id", "scenario")
    }
    columns["n_utterances"] = pa.array(np.diff(offsets))
    columns["n_speakers"] = pa.array(
        np.maximum.reduceat(table["speaker_index"].to_numpy(), starts).astype(np.int32) + 1
    )
    quality = shards_schema.quality_columns(schema.names)
    for name, source, kind in shards_schema.per_utterance(
        transcripts=shards_schema.TRANSCRIPTS in schema.names, quality=quality
    ):
        columns[name] = _lists(offsets, table[source].combine_chunks().cast(kind), schema.field(name).type)
    for modality, found in features.items():
        dim = schema.field(modality).type.value_type.list_size
        if found.values.shape != (table.num_rows, dim) or found.present.shape != (table.num_rows,):
            raise BadTable(
                f"{modality}: vectors {found.values.shape} and {len(found.present)} flags for {table.num_rows}"
                f" utterances of dimension {dim}"
            )
        columns[modality] = _lists(offsets, vectors(found.values), schema.field(modality).type)
        columns[f"{modality}_present"] = _lists(
            offsets, pa.array(found.present), schema.field(f"{modality}_present").type
        )
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _lists(offsets: np.ndarray[tuple[int], np.dtype[np.int32]], values: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)


def check_absent(utterance_ids: pa.ChunkedArray, modality: str, found: Vectors, explained_N: NDArray[np.bool_]) -> None:
    """Checks the rule of the shards: not present if and only if the vector is all zeros and a failure row says why.

    Args:
        utterance_ids: ids of the N utterances.
        modality: name for the message.
        found: their vectors.
        explained_N: which of them have a failure row of kind ``broken`` or ``absent`` for this modality.

    Raises:
        BadTable: the message names the first utterance that violates the rule.
    """
    zeros_N = ~found.values.any(axis=1)
    for wrong_N, what in (
        (~found.present & ~zeros_N, "is not present, but its vector is not all zeros"),
        (found.present & zeros_N, "is present, but its vector is all zeros"),
        (~found.present & ~explained_N, "is not present, and no failure row says why"),
    ):
        if wrong_N.any():
            first = utterance_ids[int(np.flatnonzero(wrong_N)[0])].as_py()
            raise BadTable(f"{modality}: {first} {what} ({int(wrong_N.sum())} utterances like it)")
