"""DVC stage ``trajectories``: the shards' labels → each dialogue's trajectory, its shifts, and the dialogues with
similar emotion trajectories.

Neighbours come from labels, so they are found only among train dialogues: a dev or test dialogue has none and is not a
neighbour of any, since its labels must not reach a model. ``pooled`` compares features instead, and gives every split
neighbours within the split.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from merc import files, parquet
from merc.command_line import stage_command
from merc.errors import RawDataMissing
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.log import logger
from merc.params import Params
from merc.shards.format import cutting, reader
from merc.shards.format.schema import merc_metadata
from merc.trajectories.config import POOLED, Config
from merc.trajectories.controls import compare_pairs, pair_report, sample_pairs
from merc.trajectories.pooled import LengthTrend, Means, read_means
from merc.trajectories.table import COLUMNS, Dialogues, as_table, label_columns, own_columns, pooled_columns

NEIGHBOURS_FROM = "train"
VERSION = 2
"""Incremented whenever the same labels and settings give different trajectories; part of the fingerprint."""
RECORD = ".record.json"
"""Hidden, so that no reader of the folder mistakes it for data."""
CONTROLS = "_controls.json"
"""What the similarities correlate with. Readers of the folder skip names that start with an underscore."""
# A row takes a few hundred bytes: 20,000 dialogues are a few megabytes.
_ROW_GROUP_DIALOGUES = 4096


def build_trajectories(config: Config, layout: Layout, run: RunOptions) -> Path:
    """Writes ``shards/trajectories/<split>-00000-of-00001.parquet`` for every split of the shards.

    Returns:
        The folder of the tables and of ``_controls.json`` (:func:`control_report`).

    Raises:
        BadSettings: if the block ``trajectories`` is wrong, or does not fit the shards.
        RawDataMissing: if there are no shards.
        SettingsDiffer: if trajectories made with other settings exist and ``run.overwrite`` is off.
    """
    job = _prepare(config, layout, run)
    if job.done_before():
        return job.out
    job.start()
    made = reader.info(layout.shards)
    classes: list[str] = made["classes"]
    config = config.fitting(classes)
    metadata = (
        {key: made[key] for key in ("corpus", "label_set", "classes")}
        | config.model_dump(mode="json")
        | {"neighbours_from": NEIGHBOURS_FROM}
    )
    features = (
        _Features(layout.shards, config.modalities(made["modalities"])) if POOLED in config.similarities else None
    )
    counts: dict[str, dict[str, int]] = {}
    controls: dict[str, Any] = {}
    for split in reader.splits(layout.shards):
        rows = reader.read_split(layout.shards, split, columns=COLUMNS)
        dialogues = Dialogues.of(rows)
        columns = own_columns(rows, dialogues) | label_columns(
            dialogues, config, classes, may_have_neighbours=split == NEIGHBOURS_FROM
        )
        means = features.means(split) if features else None
        if features and means:
            columns |= pooled_columns(dialogues, config, means, features.trend)
        if split == NEIGHBOURS_FROM:
            controls = control_report(dialogues, config, classes, means, features.trend if features else None)
        table = as_table(columns)
        parquet.write(
            job.folder / cutting.file_name(split, 0, 1),
            table.replace_schema_metadata(merc_metadata(metadata)),
            _ROW_GROUP_DIALOGUES,
        )
        counts[split] = _counts(table)
    files.write_json(job.folder / CONTROLS, controls)
    job.finish({"counts": counts})
    logger.info(
        "trajectories: %d dialogues, the %d nearest among %d %s dialogues by %s",
        sum(count["dialogues"] for count in counts.values()),
        config.neighbours,
        counts.get(NEIGHBOURS_FROM, {}).get("dialogues", 0),
        NEIGHBOURS_FROM,
        ", ".join(config.similarities),
        extra={"stage": job.name, "dataset": layout.dataset, "counts": counts},
    )
    return job.out


def dry_run(config: Config, layout: Layout, run: RunOptions) -> dict[str, Any]:
    """What :func:`build_trajectories` would do, for dry runs; changes nothing.

    Returns:
        ``cached`` (bool), and the settings ``neighbours`` and ``similarities``. Without shards nothing is cached.

    Raises:
        BadSettings, SettingsDiffer: as :func:`build_trajectories`.
    """
    cached = layout.shards.is_dir() and _prepare(config, layout, run).cached()
    return {"cached": cached, "neighbours": config.neighbours, "similarities": list(config.similarities)}


def control_report(
    dialogues: Dialogues, config: Config, classes: list[str], means: Means | None, trend: LengthTrend | None
) -> dict[str, Any]:
    """How far composition, length and scenario explain the similarities, on pairs of labelled dialogues.

    Args:
        dialogues: of the train split.
        config: the similarities, the number of pairs.
        classes: names of the classes.
        means: the dialogues' features; if given, only dialogues with features are in pairs. None without ``pooled``.
        trend: trend of the features.

    Returns:
        :func:`merc.trajectories.controls.pair_report`. Its similarities include ``pooled_with_length``, which is
        ``pooled`` without removing the trend.
    """
    usable = [
        index
        for index, one in enumerate(dialogues.labels)
        if (one >= 0).any() and (means is None or means.there[index])
    ]
    pairs = sample_pairs(len(usable), config.control_pairs, config.control_seed)
    values = {}
    for name in config.from_labels:
        similarity = config.similarity(name, classes)
        compared = dialogues.compared(name, config, len(classes))
        if len(pairs[0]):
            values[name] = compare_pairs(
                similarity, similarity.describe([compared[index] for index in usable], len(classes)), pairs
            )
        else:
            values[name] = np.empty(0)
    if means is not None and trend is not None:
        some, others = (np.array(usable, np.int64)[side] for side in pairs)
        values[POOLED] = trend.compare_pairs(means, some, others)
        values[f"{POOLED}_with_length"] = LengthTrend.flat().compare_pairs(means, some, others)
    lengths = [(dialogues.labels[index] >= 0).sum() for index in usable]
    scenarios = [dialogues.scenarios[index] for index in usable]
    return pair_report(values, lengths, scenarios, pairs)


class _Features:
    """Mean features of the splits, and their trend with length in the train split."""

    def __init__(self, shards: Path, modalities: list[str]) -> None:
        self._shards, self._modalities = shards, modalities
        self._stats = reader.stats(shards)
        self._train = self._read(NEIGHBOURS_FROM) if NEIGHBOURS_FROM in reader.splits(shards) else None
        self.trend = LengthTrend.fit(self._train) if self._train else LengthTrend.flat()

    def _read(self, split: str) -> Means:
        return read_means(self._shards, split, self._modalities, self._stats)

    def means(self, split: str) -> Means:
        return self._train if split == NEIGHBOURS_FROM and self._train else self._read(split)


def _counts(table: pa.Table) -> dict[str, int]:
    summed = ("shifts", "shift_pairs", "labelled_shifts", "labelled_shift_pairs")
    return {"dialogues": table.num_rows} | {name: int(table[name].to_numpy().sum()) for name in summed}


def _prepare(config: Config, layout: Layout, run: RunOptions) -> Job:
    if not layout.shards.is_dir():
        raise RawDataMissing(
            f"{layout.shards}: there are no shards of {layout.dataset!r}; make them first: merc-extract --dataset"
            f" {layout.dataset}"
        )
    dialogues = sorted((layout.shards / "dialogues").glob("*.parquet"))
    fingerprint = Fingerprint(
        settings={"trajectories": config.model_dump(mode="json")},
        inputs={"version": VERSION, "dialogues": {path.name: files.sha256(path) for path in dialogues}},
    )
    out = layout.shards / "trajectories"
    return Job("trajectories", out, layout.scratch, fingerprint, overwrite=run.overwrite, record=RECORD)


@stage_command
def main(params: Params, layout: Layout, run: RunOptions) -> None:
    """Shards → how emotion moves through each dialogue, and which dialogues have similar emotion trajectories."""
    build_trajectories(params.fill("trajectories", Config), layout, run)


if __name__ == "__main__":
    main()
