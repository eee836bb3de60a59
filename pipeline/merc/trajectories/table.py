"""The table of trajectories, column by column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc.trajectories.base import Similarity
from merc.trajectories.config import Config
from merc.trajectories.controls import order_excess
from merc.trajectories.neighbours import NONE, Neighbours, nearest, nearest_described
from merc.trajectories.pooled import COMPARISON, LengthTrend, Means
from merc.trajectories.similarity import ORDER_AWARE
from merc.trajectories.trajectory import Labels, by_slot, by_speaker, labelled, labelled_shifts, shifts

COLUMNS = ("dialogue_id", "split", "scenario", "n_utterances", "speakers", "emotion_index")
"""Columns of the shards that trajectories are made from, apart from the features of ``pooled``."""

Columns = dict[str, pa.Array | pa.ChunkedArray]


@dataclass(frozen=True)
class Dialogues:
    """One split, one entry per dialogue.

    Attributes:
        ids: unique.
        scenarios: empty if there is none.
        speakers: who says each utterance.
        labels: class indices, -1 if unlabelled.
    """

    ids: Sequence[str]
    scenarios: Sequence[str]
    speakers: Sequence[Sequence[str]]
    labels: Sequence[Labels]

    @classmethod
    def of(cls, rows: pa.Table) -> "Dialogues":
        """From rows of the shards with :data:`COLUMNS`."""
        ids, scenarios, speakers = (rows[name].to_pylist() for name in ("dialogue_id", "scenario", "speakers"))
        return cls(
            ids, scenarios, speakers, [np.array(values, np.int16) for values in rows["emotion_index"].to_pylist()]
        )

    def compared(self, name: str, config: Config, classes: int) -> list[Labels]:
        """The input of the label similarity ``name`` for each dialogue; empty if none of its utterances is labelled."""
        if name != "path_speakers":
            return [labelled(one) for one in self.labels]
        pairs = zip(self.labels, self.speakers, strict=True)
        return [by_slot(one, speakers, classes=classes, slots=config.speaker_slots) for one, speakers in pairs]


def own_columns(rows: pa.Table, dialogues: Dialogues) -> Columns:
    """The columns that describe each dialogue itself.

    ``trajectory`` with -1 at unlabelled utterances; the same per speaker; shifts and pairs by both definitions
    (:mod:`merc.trajectories.trajectory`).
    """
    both = list(zip(dialogues.labels, dialogues.speakers, strict=True))
    parts = [by_speaker(one, speakers) for one, speakers in both]
    columns: Columns = {name: rows[name] for name in ("dialogue_id", "split", "n_utterances")}
    columns |= {
        "trajectory": lists(dialogues.labels, pa.int16()),
        "speaker_names": lists([list(one) for one in parts], pa.string()),
        "speaker_trajectories": lists(
            [[part.tolist() for part in one.values()] for one in parts], _list_type(pa.int16())
        ),
    }
    for count, (shifted, pairs) in {
        shifts: ("shifts", "shift_pairs"),
        labelled_shifts: ("labelled_shifts", "labelled_shift_pairs"),
    }.items():
        counted = np.array([count(one, speakers) for one, speakers in both], np.int32).reshape(-1, 2)
        columns |= {shifted: pa.array(counted[:, 0]), pairs: pa.array(counted[:, 1])}
    return columns


def label_columns(
    dialogues: Dialogues, config: Config, classes: Sequence[str], *, suffix: str = "", may_have_neighbours: bool = True
) -> Columns:
    """Neighbours by the label similarities of the settings.

    Args:
        dialogues: of one split.
        config: K, the similarities.
        classes: names of the classes.
        suffix: appended to the columns' names.
        may_have_neighbours: False: all lists are empty.

    Returns:
        For each similarity s, ``neighbours_<s>``, best first, ``similarity_<s>``, ``same_scenario_<s>``, and for
        order-sensitive ones ``order_excess_<s>`` (:func:`merc.trajectories.controls.order_excess`).
    """
    columns: Columns = {}
    for name in config.from_labels:
        found, excess = [NONE] * len(dialogues.ids), [np.empty(0, np.float32)] * len(dialogues.ids)
        if may_have_neighbours:
            similarity = config.similarity(name, classes)
            compared = dialogues.compared(name, config, len(classes))
            scenarios = dialogues.scenarios if config.exclude_same_scenario else None
            found = nearest(
                dialogues.ids,
                compared,
                similarity,
                classes=len(classes),
                neighbours=config.neighbours,
                scenarios=scenarios,
            )
            if config.order_permutations and name in ORDER_AWARE:
                excess = _excess(dialogues.ids, found, compared, similarity, config, len(classes))
        columns |= _neighbour_columns(f"{name}{suffix}", dialogues, found)
        if config.order_permutations and name in ORDER_AWARE:
            columns[f"order_excess_{name}{suffix}"] = lists(excess, pa.float32())
    return columns


def pooled_columns(dialogues: Dialogues, config: Config, means: Means, trend: LengthTrend) -> Columns:
    """``neighbours_pooled``, ``similarity_pooled``, ``same_scenario_pooled``: neighbours by features, within the
    split.
    """
    found = [NONE] * len(dialogues.ids)
    there = np.flatnonzero(means.there).tolist()
    if there:
        scenarios = [dialogues.scenarios[index] for index in there] if config.exclude_same_scenario else None
        ids = [dialogues.ids[index] for index in there]
        near = nearest_described(
            ids, trend.describe(means), COMPARISON, neighbours=config.neighbours, scenarios=scenarios
        )
        for index, one in zip(there, near, strict=True):
            found[index] = one
    return _neighbour_columns("pooled", dialogues, found)


def as_table(columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """The columns as a table without nulls."""
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def lists(values: Sequence[Any], element: pa.DataType) -> pa.Array:
    """A list column without null elements."""
    return pa.array(values, _list_type(element))


def _list_type(element: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", element, nullable=False))


def _neighbour_columns(name: str, dialogues: Dialogues, found: Sequence[Neighbours]) -> Columns:
    scenario_of = dict(zip(dialogues.ids, dialogues.scenarios, strict=True))
    same = [
        [bool(own) and scenario_of[other] == own for other in one.ids]
        for own, one in zip(dialogues.scenarios, found, strict=True)
    ]
    return {
        f"neighbours_{name}": lists([one.ids for one in found], pa.string()),
        f"similarity_{name}": lists([one.similarities for one in found], pa.float32()),
        f"same_scenario_{name}": lists(same, pa.bool_()),
    }


def _excess(
    ids: Sequence[str],
    found: Sequence[Neighbours],
    compared: Sequence[Labels],
    similarity: Similarity,
    config: Config,
    classes: int,
) -> list[NDArray[np.float32]]:
    """The order excess of every neighbour of every dialogue."""
    # Dialogues without labels are in no pair; an empty trajectory keeps their place.
    there = [index for index, one in enumerate(compared) if len(one)]
    place = {ids[index]: at for at, index in enumerate(there)}
    counts = np.array([len(one.ids) for one in found])
    some = np.repeat([place.get(name, -1) for name in ids], counts)
    others = np.array([place[name] for one in found for name in one.ids], np.int64)
    trajectories = [compared[index] for index in there]
    kappa = order_excess(
        trajectories,
        classes,
        similarity,
        (some, others),
        permutations=config.order_permutations,
        seed=config.control_seed,
    )
    return np.split(kappa, np.cumsum(counts)[:-1])
