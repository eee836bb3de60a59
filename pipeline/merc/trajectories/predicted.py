"""Neighbours from predicted labels, for dialogues whose true labels must not be used."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merc import parquet
from merc.errors import BadSettings, BadTable, nearest
from merc.shards.format import reader
from merc.trajectories.config import Config
from merc.trajectories.table import COLUMNS, Dialogues, as_table, label_columns, lists
from merc.trajectories.trajectory import Labels

SUFFIX = "_predicted"
_NEEDED = {"seed": pa.types.is_integer, "split": pa.types.is_string, "dialogue_id": pa.types.is_string}
_NEEDED |= {"position": pa.types.is_integer, "predicted": pa.types.is_integer}


def predicted_table(
    root: Path, predictions: Path, config: Config, classes: Sequence[str], split: str, seed: int | None = None
) -> pa.Table:
    """Neighbours within a split, by a model's predictions for its utterances.

    Args:
        root: folder of the shards.
        predictions: Parquet file as training writes it: ``seed``, ``split``, ``dialogue_id``, ``position``,
            ``predicted``, one row per utterance and seed.
        config: K, the similarities; ``pooled`` uses no labels and is left out.
        classes: names of the classes.
        split: name of the split, such as ``test``.
        seed: seed of the predictions; None: the smallest in the file.

    Returns:
        ``dialogue_id``, ``split``, ``trajectory_predicted``, and for each label similarity s
        ``neighbours_<s>_predicted`` and the columns next to it (:func:`merc.trajectories.table.label_columns`), in the
        order of the shards.

    Raises:
        BadTable: if the file is not such a table, or its dialogues are not those of the split.
        BadSettings: if the file has no rows of the split or the seed.
    """
    rows = reader.read_split(root, split, columns=COLUMNS)
    labels = _labels(rows, _read(predictions), predictions, split, seed, len(classes))
    dialogues = Dialogues.of(rows)
    guessed = Dialogues(dialogues.ids, dialogues.scenarios, dialogues.speakers, labels)
    columns = {
        "dialogue_id": rows["dialogue_id"],
        "split": rows["split"],
        f"trajectory{SUFFIX}": lists(labels, pa.int16()),
    }
    return as_table(columns | label_columns(guessed, config, classes, suffix=SUFFIX))


def _read(path: Path) -> pa.Table:
    there = parquet.schema(path).names
    table = parquet.read(path, [name for name in _NEEDED if name in there])
    strange = [
        name
        for name, fits in _NEEDED.items()
        if name not in table.column_names or not fits(table.schema.field(name).type) or table[name].null_count
    ]
    if strange:
        raise BadTable(
            f"{path}: not a table of predictions: its column {strange[0]!r} is missing, of another type or has nulls"
        )
    return table


def _labels(
    rows: pa.Table, predictions: pa.Table, path: Path, split: str, seed: int | None, classes: int
) -> list[Labels]:
    """The predicted labels of each dialogue of ``rows``."""
    of_split = predictions.filter(pc.equal(predictions["split"], split))
    if not of_split.num_rows:
        raise BadSettings(
            f"{path}: no predictions for the split {split!r};"
            f" {nearest(split, sorted(predictions['split'].unique().to_pylist()))}"
        )
    seeds = sorted(of_split["seed"].unique().to_pylist())
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise BadSettings(f"{path}: no predictions of seed {chosen}; there are {', '.join(map(str, seeds))}")
    one = of_split.filter(pc.equal(of_split["seed"], chosen)).sort_by(
        [("dialogue_id", "ascending"), ("position", "ascending")]
    )
    guesses = one["predicted"].to_numpy()
    if ((guesses < 0) | (guesses >= classes)).any():
        raise BadTable(f"{path}: predicted classes must lie between 0 and {classes - 1}")
    names, begins = np.unique(np.array(one["dialogue_id"].to_pylist(), dtype=object), return_index=True)
    found = dict(zip(names, np.split(guesses.astype(np.int16), begins[1:]), strict=True))
    for name, length in zip(rows["dialogue_id"].to_pylist(), rows["n_utterances"].to_pylist(), strict=True):
        if len(found.get(name, ())) != length:
            raise BadTable(
                f"{path}: {len(found.get(name, ()))} predictions for the {length} utterances of {name!r}; do they"
                " belong to other shards?"
            )
    return [found[name] for name in rows["dialogue_id"].to_pylist()]
