"""The predictions of a dataset's recipes for its test utterances, small enough for a page: one character each.

A recipe's class is the one with the highest probability, averaged over its seeds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from merc.errors import BadTable
from merc.reports import predictions
from merc.reports.results import PREDICTIONS

_FIRST = ord("0")  # class 0; an unlabelled utterance has the character before it


@dataclass(frozen=True)
class Said:
    """The predictions of one recipe.

    Attributes:
        utterance_ids, dialogue_ids: of each test utterance.
        labels, classes: one character each (:func:`signs`).
    """

    utterance_ids: tuple[str, ...]
    dialogue_ids: tuple[str, ...]
    labels: str
    classes: str


def signs(indices: Iterable[int]) -> str:
    """Class indices as one string.

    >>> signs([0, 2, -1])
    '02/'
    """
    return "".join(chr(_FIRST + index) for index in indices)


def read(folder: Path, classes: int) -> Said | None:
    """A run's predictions for test; None if it stored none.

    Args:
        folder: ``runs/<dataset>/<recipe>``.
        classes: number of classes.

    Raises:
        BadTable: if the file is damaged, or its seeds do not have the same utterances.
    """
    path = folder / PREDICTIONS
    if not path.is_file():
        return None
    table, found = predictions.read(path, classes, ["split", "dialogue_id", "label"])
    test_U = np.array(table["split"].to_pylist(), dtype=object)[found.rows] == "test"
    rows = table.take(found.rows[test_U])
    if (found.seeds[test_U] != len(pc.unique(table["seed"]))).any():
        raise BadTable(f"{path}: its seeds do not cover the same test utterances; retrain the run")
    ids, dialogues = (tuple(rows[name].to_pylist()) for name in ("utterance_id", "dialogue_id"))
    return Said(ids, dialogues, signs(rows["label"].to_pylist()), signs(found.means[test_U].argmax(axis=1).tolist()))
