"""DVC stage ``trajectories``: the shards' labels → each dialogue's trajectory, its shifts, and the dialogues that move alike.

Neighbours come from labels, so they are found among the train dialogues alone: a dev or test dialogue has none and is nobody's,
since its labels must reach no model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from pipeline import files
from pipeline.command_line import stage_command
from pipeline.errors import RawDataMissing
from pipeline.extraction import tables
from pipeline.layout import Layout
from pipeline.log import logger
from pipeline.params import Params, Settings
from pipeline.parts import Fingerprint, RunOptions, StageWork
from pipeline.shards import cutting, reader
from pipeline.shards.card import write_card
from pipeline.shards.schema import merc_metadata
from pipeline.trajectories.neighbours import Neighbours, nearest
from pipeline.trajectories.similarity import similarity
from pipeline.trajectories.trajectory import Labels, by_speaker, labelled, shifts

NEIGHBOURS_FROM = "train"
VERSION = 1
"""Raised by one whenever the same labels and settings give other trajectories; part of the fingerprint."""
RECORD = ".info.json"
"""Hidden, so that no reader of the folder takes it for data."""
# A row is some hundred bytes: 20,000 dialogues are a few megabytes.
_ROW_GROUP_DIALOGUES = 4096
_COLUMNS = ["dialogue_id", "split", "n_utterances", "speakers", "emotion_index"]


class Config(Settings):
    """Settings of the trajectories.

    Attributes:
        neighbours: K, how many nearest dialogues are written for each similarity.
        similarities: which ones; see :mod:`pipeline.trajectories.similarity`.
        path_bins: R of ``path``.
    """

    neighbours: int = Field(ge=1)
    similarities: tuple[Literal["histogram", "transition", "edit", "path"], ...] = Field(min_length=1)
    path_bins: int = Field(ge=1)

    @field_validator("similarities")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a similarity is named twice")
        return names


def build_trajectories(params: Params, layout: Layout, run: RunOptions) -> Path:
    """Writes ``shards/trajectories/<split>-00000-of-00001.parquet`` for every split of the shards, and renews the shards' card.

    Returns:
        The folder of the tables.

    Raises:
        BadSettings: if the block ``trajectories`` is wrong.
        RawDataMissing: if there are no shards.
        SettingsDiffer: if trajectories made with other settings are there and ``run.overwrite`` is off.
    """
    config, work = _prepare(params, layout, run)
    if work.cached():
        logger.info("trajectories: done before", extra={"stage": work.name, "cached": True})
        write_card(layout.shards)
        return work.out
    work.start()
    made = reader.info(layout.shards)
    classes: list[str] = made["classes"]
    metadata = {key: made[key] for key in ("corpus", "label_set", "classes")} | config.model_dump(mode="json") | {"neighbours_from": NEIGHBOURS_FROM}
    counts: dict[str, dict[str, int]] = {}
    for split in reader.splits(layout.shards):
        rows = reader.read_split(layout.shards, split, columns=_COLUMNS)
        table = trajectory_table(rows, config, len(classes), may_have_neighbours=split == NEIGHBOURS_FROM)
        tables.write(work.folder / cutting.file_name(split, 0, 1), table.replace_schema_metadata(merc_metadata(metadata)), _ROW_GROUP_DIALOGUES)
        counts[split] = {"dialogues": table.num_rows, "shifts": _total(table, "shifts"), "shift_pairs": _total(table, "shift_pairs")}
    work.finish({"counts": counts})
    write_card(layout.shards)
    logger.info(
        "trajectories: %d dialogues, the %d nearest among %d %s dialogues by %s",
        sum(count["dialogues"] for count in counts.values()),
        config.neighbours,
        counts.get(NEIGHBOURS_FROM, {}).get("dialogues", 0),
        NEIGHBOURS_FROM,
        ", ".join(config.similarities),
        extra={"stage": work.name, "dataset": layout.dataset, "counts": counts},
    )
    return work.out


def plan(params: Params, layout: Layout, run: RunOptions) -> dict[str, Any]:
    """What :func:`build_trajectories` would do, for dry runs; changes nothing.

    Returns:
        ``cached`` (bool), and the settings ``neighbours`` and ``similarities``. Without shards nothing is cached.

    Raises:
        BadSettings, SettingsDiffer: as :func:`build_trajectories`.
    """
    config = params.fill("trajectories", Config)
    cached = layout.shards.is_dir() and _prepare(params, layout, run)[1].cached()
    return {"cached": cached, "neighbours": config.neighbours, "similarities": list(config.similarities)}


def trajectory_table(rows: pa.Table, config: Config, classes: int, *, may_have_neighbours: bool) -> pa.Table:
    """The trajectories of one split, one row per dialogue.

    Args:
        rows: of the shards: dialogue_id, split, n_utterances, speakers, emotion_index.
        config: K, the similarities.
        classes: number of classes C.
        may_have_neighbours: False: all neighbour lists are empty.

    Returns:
        ``trajectory`` with -1 at unlabelled utterances; the same per speaker; shifts and pairs
        (:func:`pipeline.trajectories.trajectory.shifts`); per similarity s ``neighbours_<s>``, best first, and ``similarity_<s>``.
    """
    ids: list[str] = rows["dialogue_id"].to_pylist()
    labels: list[Labels] = [np.array(values, np.int16) for values in rows["emotion_index"].to_pylist()]
    speakers: list[list[str]] = rows["speakers"].to_pylist()
    of_speakers = [by_speaker(one, names) for one, names in zip(labels, speakers, strict=True)]
    shifted = [shifts(one, names) for one, names in zip(labels, speakers, strict=True)]
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "dialogue_id": rows["dialogue_id"],
        "split": rows["split"],
        "n_utterances": rows["n_utterances"],
        "trajectory": _lists(labels, pa.int16()),
        "speaker_names": _lists([list(parts) for parts in of_speakers], pa.string()),
        "speaker_trajectories": _lists([[part.tolist() for part in parts.values()] for parts in of_speakers], _list_type(pa.int16())),
        "shifts": pa.array([count for count, _ in shifted], pa.int32()),
        "shift_pairs": pa.array([pairs for _, pairs in shifted], pa.int32()),
    }
    compared = [labelled(one) if may_have_neighbours else one[:0] for one in labels]
    for name in config.similarities:
        found = nearest(ids, compared, similarity(name, config.path_bins), classes=classes, neighbours=config.neighbours)
        columns |= _neighbour_columns(name, found)
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def _neighbour_columns(name: str, found: Sequence[Neighbours]) -> dict[str, pa.Array]:
    return {
        f"neighbours_{name}": _lists([one.ids for one in found], pa.string()),
        f"similarity_{name}": _lists([one.similarities for one in found], pa.float32()),
    }


def _list_type(element: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", element, nullable=False))


def _lists(values: Sequence[Any], element: pa.DataType) -> pa.Array:
    return pa.array(values, _list_type(element))


def _total(table: pa.Table, column: str) -> int:
    return int(table[column].to_numpy().sum())


def _prepare(params: Params, layout: Layout, run: RunOptions) -> tuple[Config, StageWork]:
    config = params.fill("trajectories", Config)
    if not layout.shards.is_dir():
        raise RawDataMissing(f"{layout.shards}: there are no shards of {layout.dataset!r}; make them first: merc-extract --dataset {layout.dataset}")
    dialogues = sorted((layout.shards / "dialogues").glob("*.parquet"))
    fingerprint = Fingerprint(
        settings={"trajectories": config.model_dump(mode="json")},
        inputs={"version": VERSION, "dialogues": {path.name: files.sha256(path) for path in dialogues}},
    )
    out = layout.shards / "trajectories"
    return config, StageWork("trajectories", out, layout.scratch, fingerprint, overwrite=run.overwrite, record=RECORD)


if __name__ == "__main__":
    stage_command(build_trajectories)()
