"""What the recipes of a dataset say of its test utterances, small enough for a page: one sign an utterance and recipe.

A recipe's class is the one with the highest probability, averaged over its seeds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from merc import parquet
from merc.errors import BadTable
from merc.reports.results import PREDICTIONS

_FIRST = ord("0")  # class 0; an unlabelled utterance has the sign before it


@dataclass(frozen=True)
class Said:
    """What one recipe says.

    Attributes:
        utterance_ids, dialogue_ids: of each test utterance.
        labels, classes: a sign each (:func:`signs`).
    """

    utterance_ids: tuple[str, ...]
    dialogue_ids: tuple[str, ...]
    labels: str
    classes: str


def signs(indices: Iterable[int]) -> str:
    """Places of classes as one string.

    >>> signs([0, 2, -1])
    '02/'
    """
    return "".join(chr(_FIRST + index) for index in indices)


def read(folder: Path, classes: int) -> Said | None:
    """What a run says of test; None if it kept no predictions.

    Args:
        folder: ``runs/<dataset>/<recipe>``.
        classes: how many there are.

    Raises:
        BadTable: if the file is damaged, or its seeds do not speak of the same utterances.
    """
    path = folder / PREDICTIONS
    if not path.is_file():
        return None
    table = parquet.read(path, ["seed", "split", "dialogue_id", "utterance_id", "label", "probabilities"])
    table = table.filter(np.array(table["split"].to_pylist(), dtype=object) == "test")
    seeds = table["seed"].to_numpy()
    first = seeds == (seeds[0] if len(seeds) else -1)
    ids, dialogues = (np.array(table[name].to_pylist(), dtype=object) for name in ("utterance_id", "dialogue_id"))
    each = [ids[seeds == seed] for seed in dict.fromkeys(seeds.tolist())]
    if any(len(one) != len(each[0]) or (one != each[0]).any() for one in each):
        raise BadTable(f"{path}: its seeds do not speak of the same test utterances; train the run again")
    values = table["probabilities"].combine_chunks().flatten().to_numpy()
    if len(values) != len(table) * classes:
        raise BadTable(f"{path}: {len(values)} probabilities for {len(table)} rows, and there are {classes} classes")
    means_NC = values.reshape(max(len(each), 1), -1, classes).mean(axis=0)
    return Said(tuple(ids[first]), tuple(dialogues[first]), signs(table["label"].to_numpy()[first].tolist()), signs(means_NC.argmax(axis=1).tolist()))
