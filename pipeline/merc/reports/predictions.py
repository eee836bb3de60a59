"""The predictions of a run: for every utterance the probabilities of the classes, averaged over the seeds. All pages
use this module.

Legend: R rows of a file, U utterances in it, C classes of a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc import parquet
from merc.errors import BadTable
from merc.reports.results import RESULTS

COLUMNS = ("seed", "utterance_id", "probabilities")


@dataclass(frozen=True)
class Predictions:
    """Predictions.

    Attributes:
        utterance_ids: U strings, in the order of their first occurrence in the file.
        rows: [U], the row of each in the table, for its other columns.
        seeds: [U], number of seeds with a prediction for each.
        means: [U, C], mean probabilities over these.
    """

    utterance_ids: pa.Array
    rows: NDArray[np.int64]
    seeds: NDArray[np.int64]
    means: NDArray[np.float64]


def read(path: Path, classes: int, more: Sequence[str] = ()) -> tuple[pa.Table, Predictions]:
    """Reads ``predictions.parquet`` of a run: the table with some more columns, and the predictions.

    Raises:
        BadTable: if it is damaged or contains something else.
    """
    table = parquet.read(path, [*COLUMNS, *more])
    return table, of_table(table, classes, path)


def of_table(table: pa.Table, classes: int, path: Path) -> Predictions:
    """The predictions in rows with :data:`COLUMNS` from ``path``.

    Raises:
        BadTable: if a row does not have ``classes`` finite probabilities, or an utterance occurs twice for a seed.
    """
    if not pa.types.is_string(table["utterance_id"].type) or not pa.types.is_integer(table["seed"].type):
        raise BadTable(
            f"{path}: utterance_id holds {table['utterance_id'].type} and seed {table['seed'].type} instead of strings"
            " and integers"
        )
    probabilities_RC = _probabilities(table, classes, path)
    encoded: Any = table["utterance_id"].combine_chunks().dictionary_encode()
    ids, place_R = encoded.dictionary, np.asarray(encoded.indices, dtype=np.int64)
    _check_once(np.asarray(table["seed"]), place_R, len(ids), path)
    sums_UC = np.zeros((len(ids), classes))
    np.add.at(sums_UC, place_R, probabilities_RC)
    seeds_U = np.bincount(place_R, minlength=len(ids))
    return Predictions(ids, np.unique(place_R, return_index=True)[1], seeds_U, sums_UC / seeds_U[:, None])


def _probabilities(table: pa.Table, classes: int, path: Path) -> NDArray[np.float64]:
    column = table["probabilities"].combine_chunks()
    if not pa.types.is_fixed_size_list(column.type) or column.type.list_size != classes or column.null_count:
        raise BadTable(
            f"{path}: probabilities are {column.type} instead of {classes} numbers, one for each class that {RESULTS}"
            " names"
        )
    probabilities_RC = np.asarray(column.flatten(), dtype=np.float64).reshape(-1, classes)
    if not np.isfinite(probabilities_RC).all():
        raise BadTable(f"{path}: probabilities that are not finite")
    return probabilities_RC


def _check_once(seed_R: NDArray[np.int64], place_R: NDArray[np.int64], utterances: int, path: Path) -> None:
    keys = np.unique(seed_R, return_inverse=True)[1] * utterances + place_R
    if len(np.unique(keys)) != len(keys):
        raise BadTable(f"{path}: an utterance occurs twice for one seed")
