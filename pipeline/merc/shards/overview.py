"""What is inside shards, without reading a vector: corpora, splits, labels, coverage, encoders, failures,
neighbours.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from merc.records.dialogue import SPLITS
from merc.shards.format import reader
from merc.shards.format.row_groups import TABLES, files_of, opened, row_groups

_ENCODER = ("name", "encoder", "tag", "revision", "layer", "pooling", "dim", "licence", "training_data_overlap")


@dataclass(frozen=True)
class Overview:
    """What is inside shards; everything is JSON-able.

    Attributes:
        corpora: corpus → split → numbers of dialogues and utterances.
        label_set: its name.
        schema_version: version of the tables' schema.
        transcripts: whether there is a column ``texts``.
        splits: in order.
        counts: split → ``dialogues``, ``utterances``, ``labels`` (class → count), ``unlabelled``, ``present`` (modality
            → count), ``failures``.
        encoders: modality → what made its vectors.
        failures: ``reason``, ``kind``, ``modality`` and count per split, most frequent first.
        neighbours: similarities with nearest dialogues.
        quality: the columns of an audit.
        selection: how a condition selected the shards, one sentence per split.
        made_from: the corpora of the shards that these were made from by selecting or merging.
        files, bytes: numbers over all tables.
    """

    corpora: dict[str, dict[str, dict[str, int]]]
    label_set: str
    schema_version: str
    transcripts: bool
    splits: list[str]
    counts: dict[str, dict[str, Any]]
    encoders: dict[str, dict[str, Any]]
    failures: list[dict[str, Any]]
    neighbours: list[str]
    quality: list[str]
    selection: list[str]
    made_from: list[str]
    files: int
    bytes: int


def overview(root: Path) -> Overview:
    """Summarises the shards in ``root``.

    Raises:
        BadTable: if it contains no shards, or shards of another schema version, or a file cannot be read.
    """
    info = reader.info(root)
    splits = [split for split in SPLITS if split in info["splits"]]
    paths = [path for table in TABLES for split in SPLITS for path in files_of(root, table, split)]
    ordered = {
        split: {
            **info["counts"][split],
            "labels": {name: info["counts"][split]["labels"][name] for name in info["classes"]},
        }
        for split in splits
    }
    return Overview(
        corpora=_corpora(root, splits),
        label_set=info["label_set"],
        schema_version=info["schema_version"],
        transcripts=info.get("transcripts", True),
        splits=splits,
        counts=ordered,
        encoders={
            modality: {key: info["encoders"][modality].get(key) for key in _ENCODER} for modality in info["modalities"]
        },
        failures=_failures(root, splits),
        neighbours=_neighbours(root),
        quality=(info.get("quality") or {}).get("columns", []),
        selection=info.get("selection", []),
        made_from=[part["corpus"] for part in info.get("made_from", [])],
        files=len(paths),
        bytes=sum(path.stat().st_size for path in paths),
    )


def _corpora(root: Path, splits: list[str]) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = {}
    for split in splits:
        for path in files_of(root, "dialogues", split):
            for rows in row_groups(path, ["corpus", "n_utterances"]):
                for one in (
                    rows.group_by("corpus").aggregate([("n_utterances", "count"), ("n_utterances", "sum")]).to_pylist()
                ):
                    counts = found.setdefault(one["corpus"], {}).setdefault(split, {"dialogues": 0, "utterances": 0})
                    counts["dialogues"] += one["n_utterances_count"]
                    counts["utterances"] += one["n_utterances_sum"]
    return found


def _failures(root: Path, splits: list[str]) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    keys = ["reason", "kind", "modality"]
    for split in splits:
        for path in files_of(root, "failures", split):
            for rows in row_groups(path, keys):
                for one in rows.group_by(keys).aggregate([([], "count_all")]).to_pylist():
                    counts.setdefault((one["reason"], one["kind"], one["modality"]), Counter())[split] += one[
                        "count_all"
                    ]
    order = sorted(counts, key=lambda key: (-counts[key].total(), key))
    return [
        dict(zip(keys, key, strict=True)) | {"splits": {split: counts[key][split] for split in splits}} for key in order
    ]


def _neighbours(root: Path) -> list[str]:
    """Similarities for which some dialogue has neighbours."""
    found: dict[str, bool] = {}
    for path in (path for split in SPLITS for path in files_of(root, "trajectories", split)):
        with opened(path) as file:
            names = [name for name in file.schema_arrow.names if name.startswith("neighbours_")]
        for rows in row_groups(path, names) if names else ():
            for name in names:
                found[name] = found.get(name, False) or bool(
                    pc.any(pc.greater(pc.list_value_length(rows[name]), 0)).as_py()
                )
    return [name.removeprefix("neighbours_") for name, some in found.items() if some]
