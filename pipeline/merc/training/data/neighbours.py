"""The index of emotion trajectories as tensors: each train dialogue's nearest dialogues, as places in the split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from merc import parquet
from merc.errors import BadSettings, BadTable, nearest
from merc.params import Settings
from merc.training.data.dataset import DialogueSplit

_PREFIX = "neighbours_"


class Neighbours(Settings):
    """A recipe's key ``neighbours``.

    Attributes:
        similarity: similarity of the neighbours; one of ``trajectories.similarities``.
        per_dialogue: number of a dialogue's neighbours that join its batch
            (:func:`merc.training.data.collate.neighbour_batches`); 0: batches are drawn as usual, and losses see only
            neighbours that are there by chance.
    """

    similarity: str
    per_dialogue: int = Field(ge=0)


def tables(shards: Path) -> list[Path]:
    """The files of the index, only for the train split: labels of other splits must not determine neighbours.

    Raises:
        BadTable: if there are none.
    """
    found = sorted((shards / "trajectories").glob("train-*-of-*.parquet"))
    if not found:
        raise BadTable(
            f"{shards}: the recipe needs neighbours, but there is no trajectories/train-*.parquet; `merc-extract`"
            " makes it"
        )
    return found


def with_neighbours(split: DialogueSplit, shards: Path, similarity: str) -> DialogueSplit:
    """The split with its dialogues' neighbours; a dialogue that is not in the index has none.

    Raises:
        BadSettings: if the index has no such similarity; the message gives the nearest name.
        BadTable: if there is no index, or it names a train dialogue that is not in the split.
    """
    paths = tables(shards)
    there = [name.removeprefix(_PREFIX) for name in parquet.schema(paths[0]).names if name.startswith(_PREFIX)]
    if similarity not in there:
        raise BadSettings(
            f"neighbours.similarity: the trajectories at {shards} have no {similarity!r}; {nearest(similarity, there)}"
        )
    columns = ["dialogue_id", f"{_PREFIX}{similarity}", f"similarity_{similarity}"]
    table = pa.concat_tables([parquet.read(path, columns) for path in paths]).combine_chunks()
    ids = pa.array(split.dialogue_ids, pa.string())
    lists, values = (table[name].combine_chunks() for name in columns[1:])
    rows = _places(table["dialogue_id"], ids, shards)
    counts = lists.value_lengths().to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    places_DK = np.full((len(ids), counts.max(initial=0)), -1, dtype=np.int64)
    similarity_DK = np.zeros(places_DK.shape, dtype=np.float32)
    places_DK[rows[owner], rank] = _places(lists.flatten(), ids, shards)
    similarity_DK[rows[owner], rank] = values.flatten().to_numpy(zero_copy_only=False)
    return replace(split, neighbours=torch.from_numpy(places_DK), neighbour_similarity=torch.from_numpy(similarity_DK))


def _places(
    wanted: pa.Array | pa.ChunkedArray, ids: pa.Array, shards: Path
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Id → place in the split."""
    places = pc.index_in(wanted, value_set=ids)
    if places.null_count:
        unknown = wanted.filter(pc.is_null(places))[0].as_py()
        raise BadTable(
            f"{shards}: the trajectories name a train dialogue that is not in the shards: {unknown}; remake them:"
            " merc-extract"
        )
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = places.to_numpy(zero_copy_only=False).astype(np.int64)
    return found
