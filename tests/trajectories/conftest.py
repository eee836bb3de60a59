"""Random and real trajectories, and shards made from given labels."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from merc import files, parquet
from merc.layout import Layout
from merc.shards.format.schema import SCHEMA_VERSION, schema

Labels = NDArray[np.int16]
CLASSES = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
VALENCE_AROUSAL = {
    "neutral": [0.0, 0.0],
    "surprise": [0.2, 0.8],
    "fear": [-0.7, 0.6],
    "sadness": [-0.7, -0.4],
    "joy": [0.8, 0.4],
    "disgust": [-0.6, 0.3],
    "anger": [-0.7, 0.7],
}


@pytest.fixture(scope="session")
def plane() -> NDArray[np.float64]:
    """Valence and arousal of MELD's classes, (7, 2)."""
    return np.array([VALENCE_AROUSAL[name] for name in CLASSES])


@pytest.fixture(scope="session")
def random_trajectories() -> Callable[..., list[Labels]]:
    def make(number: int, classes: int = 4, longest: int = 12, seed: int = 0) -> list[Labels]:
        rng = np.random.default_rng(seed)
        return [rng.integers(0, classes, rng.integers(1, longest + 1)).astype(np.int16) for _ in range(number)]

    return make


@pytest.fixture(scope="session")
def meld_dialogues(real_data: Path) -> Callable[[str], dict[str, tuple[Labels, list[str]]]]:
    """Split → dialogue → labels and speakers, straight from MELD's own table."""

    def read(split: str) -> dict[str, tuple[Labels, list[str]]]:
        with (real_data / "meld" / f"{split}_sent_emo.csv").open(encoding="utf-8", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: (int(row["Dialogue_ID"]), int(row["Utterance_ID"])))
        dialogues: dict[str, tuple[list[int], list[str]]] = {}
        for row in rows:
            labels, speakers = dialogues.setdefault(f"{split}/dia{row['Dialogue_ID']}", ([], []))
            labels.append(CLASSES.index(row["Emotion"]))
            speakers.append(row["Speaker"])
        return {dialogue: (np.array(labels, np.int16), speakers) for dialogue, (labels, speakers) in dialogues.items()}

    return read


@pytest.fixture
def write_shards(tmp_path: Path) -> Callable[..., Layout]:
    """Writes shards of dialogues given as (id, one letter per speaker, labels) by split.

    One text vector of length 2 per utterance: 1, and a tenth of the label; an utterance labelled -1 has none.
    ``scenarios`` by id.
    """

    def write(
        dialogues: dict[str, list[tuple[str, str, list[int]]]], scenarios: dict[str, str] | None = None
    ) -> Layout:
        layout = Layout(tmp_path / "raw", tmp_path / "features", "tiny")
        shape = schema({"text": 2}, {"corpus": "tiny", "label_set": "meld7", "encoders": {}}, CLASSES)
        counts = {}
        for split, rows in dialogues.items():
            table = pa.Table.from_pylist(
                [_row(split, *row, (scenarios or {}).get(row[0], "")) for row in rows], schema=shape
            )
            parquet.write(layout.shards / "dialogues" / f"{split}-00000-of-00001.parquet", table)
            utterances = sum(len(labels) for _, _, labels in rows)
            counts[split] = {
                "dialogues": len(rows),
                "utterances": utterances,
                "labels": dict.fromkeys(CLASSES, 0),
                "unlabelled": 0,
                "present": {"text": utterances},
            }
        info = {
            "schema_version": SCHEMA_VERSION,
            "corpus": "tiny",
            "label_set": "meld7",
            "classes": CLASSES,
            "counts": counts,
            "splits": list(dialogues),
        }
        more = {
            "modalities": ["text"],
            "dims": {"text": 2},
            "encoders": {"text": {"name": "ngrams"}},
            "source": "",
            "deviations": [],
        }
        files.write_json(
            layout.shards / "meta" / "info.json", info | more | {"versions": {"merc-pipeline": "0"}, "fingerprint": "0"}
        )
        files.write_json(
            layout.shards / "meta" / "stats.json", {"text": {"count": 1, "mean": [0.5, 0.5], "std": [0.5, 0.25]}}
        )
        return layout

    return write


def _row(split: str, dialogue_id: str, speakers: str, labels: list[int], scenario: str) -> dict[str, Any]:
    ids = [f"{dialogue_id}_utt{position}" for position in range(len(labels))]
    texts = {
        "utterance_ids": ids,
        "source_utterance_ids": ids,
        "texts": ["hi"] * len(labels),
        "emotions": ["joy"] * len(labels),
    }
    nothing: dict[str, Any] = {name: [None] * len(labels) for name in ("valence", "arousal", "dominance")}
    return {
        "corpus": "tiny",
        "split": split,
        "dialogue_id": dialogue_id,
        "scenario": scenario,
        "n_utterances": len(labels),
        "n_speakers": len(set(speakers)),
        "speakers": list(speakers),
        "speaker_index": [list(dict.fromkeys(speakers)).index(one) for one in speakers],
        "emotion_index": labels,
        "sentiments": [""] * len(labels),
        "start_seconds": [0.0] * len(labels),
        "end_seconds": [1.0] * len(labels),
        "text": [[1.0, label / 10] if label >= 0 else [0.0, 0.0] for label in labels],
        "text_present": [label >= 0 for label in labels],
        **texts,
        **nothing,
    }
