"""One dialogue and those with similar emotion trajectories, with their texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from merc import parquet
from merc.errors import BadSettings, BadTable, RawDataMissing, nearest
from merc.shards.format import reader
from merc.shards.format.row_groups import merc, with_equal_lists, without_nulls
from merc.shards.format.schema import check_dialogues, check_trajectories
from merc.trajectories.config import POOLED

DEFAULT = "path"


@dataclass(frozen=True)
class Seen:
    """A dialogue as displayed.

    Attributes:
        dialogue_id: its id.
        labels: class index of every utterance, -1 if unlabelled.
        speakers: speaker of every utterance.
        texts: transcripts; empty strings if the shards contain none.
        similarity: to the requested dialogue; None for that one itself.
        order_excess: how much of it the order explains; None if unknown.
        same_scenario: whether both belong to the same scenario.
    """

    dialogue_id: str
    labels: Sequence[int]
    speakers: Sequence[str]
    texts: Sequence[str]
    similarity: float | None = None
    order_excess: float | None = None
    same_scenario: bool = False


def read_row(root: Path, dialogue_id: str) -> dict[str, Any]:
    """The dialogue's row of the trajectories.

    Raises:
        BadTable: if the shards have no such dialogue; the message gives the nearest id.
        RawDataMissing: if there are no trajectories, or none of this dialogue.
    """
    split = reader.dialogue(root, dialogue_id, columns=["split"])["split"][0].as_py()
    paths = sorted((root / "trajectories").glob(f"{split}-*-of-*.parquet"))
    for path in paths:
        check_trajectories(parquet.schema(path), path)
    rows = (
        without_nulls(parquet.read(paths, filters=pc.field("dialogue_id") == dialogue_id), paths[0]).to_pylist()
        if paths
        else []
    )
    if not rows:
        raise RawDataMissing(
            f"{root}: no trajectory of {dialogue_id!r}; make the trajectories first: merc-extract, or dvc repro"
        )
    found: dict[str, Any] = rows[0]
    return found


def made_with(root: Path, split: str) -> dict[str, Any]:
    """The facts in the metadata of a split's trajectories: the settings, the classes.

    Raises:
        BadTable: if the table has none.
    """
    path = next(iter(sorted((root / "trajectories").glob(f"{split}-*-of-*.parquet"))), None)
    if path is None:
        raise RawDataMissing(f"{root}: no trajectories of {split!r}; make them first: merc-extract, or dvc repro")
    metadata = parquet.schema(path).metadata or {}
    if b"merc" not in metadata:
        raise BadTable(f"{path}: not a table of trajectories: the key 'merc' is missing in its metadata")
    return merc(parquet.schema(path))


def choose(row: dict[str, Any], similarity: str | None, suffix: str = "") -> str:
    """The similarity whose neighbours are shown: the requested one, else ``path``, or ``pooled`` for a dialogue without
    neighbours by labels.

    Args:
        row: row of the trajectories. similarity: its name without ``suffix``, or None.
        suffix: of the columns.

    Raises:
        BadSettings: if there is no such column.
    """
    there = [name.removeprefix("neighbours_").removesuffix(suffix) for name in row if name.startswith("neighbours_")]
    if similarity is None:
        some = [name for name in (DEFAULT, POOLED, *there) if name in there]
        return next((name for name in some if row[f"neighbours_{name}{suffix}"]), some[0])
    if similarity not in there:
        raise BadSettings(f"no neighbours by {similarity!r}; {nearest(similarity, there)}")
    return similarity


def with_neighbours(
    root: Path, row: dict[str, Any], name: str, number: int, labels: dict[str, Sequence[int]] | None = None
) -> list[Seen]:
    """The dialogue of ``row`` and its nearest, best first.

    Args:
        root: folder of the shards.
        row: of the trajectories, or of predicted ones.
        name: name of the columns: ``neighbours_<name>`` and related ones.
        number: maximum number of neighbours.
        labels: by id, shown instead of those of the shards.
    """
    ids = (row[f"neighbours_{name}"] or [])[:number]
    dialogues = _dialogues(root, row["split"], [row["dialogue_id"], *ids])
    strange = sorted({row["dialogue_id"], *ids} - dialogues.keys())
    classes = len(reader.info(root)["classes"])
    labelled = [
        one
        for one, said in dialogues.items()
        if any(label is None or label >= classes for label in said["emotion_index"])
    ]
    if strange or labelled:
        raise BadTable(
            f"{root}: {(strange or labelled)[0]!r} is a neighbour that does not exist, or has a label outside the"
            f" {classes} classes"
        )
    excess = row.get(f"order_excess_{name}") or [None] * len(ids)

    def seen(one: str, **more: Any) -> Seen:
        said = dialogues[one]
        shown = said["emotion_index"] if labels is None else labels[one]
        return Seen(one, shown, said["speakers"], said.get("texts") or [""] * len(shown), **more)

    same_scenario = row.get(f"same_scenario_{name}") or [False] * len(ids)
    facts = zip(ids, row.get(f"similarity_{name}") or [None] * len(ids), excess, same_scenario, strict=False)
    near = [seen(one, similarity=value, order_excess=order, same_scenario=same) for one, value, order, same in facts]
    return [seen(row["dialogue_id"]), *near]


def _dialogues(root: Path, split: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    paths = sorted((root / "dialogues").glob(f"{split}-*-of-*.parquet"))
    there = parquet.schema(paths[0]).names
    columns = [name for name in ("dialogue_id", "speakers", "texts", "emotion_index") if name in there]
    for path in paths:
        check_dialogues(parquet.schema(path), path)
    rows = parquet.read(
        paths, [*columns, "n_utterances"], filters=pc.field("dialogue_id").isin(pa.array(ids, pa.string()))
    )
    return {row["dialogue_id"]: row for row in with_equal_lists(without_nulls(rows, paths[0]), paths[0]).to_pylist()}
