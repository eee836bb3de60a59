"""Shards and runs as the stages before the report leave them, made of random labels and scores."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from merc import files, parquet
from merc.evaluation.engine import summary
from merc.job import RunOptions
from merc.layout import Layout
from merc.records import failures
from merc.records.failures import Failure
from merc.shards.format.schema import SCHEMA_VERSION, schema
from merc.trajectories.config import Config as TrajectoriesConfig
from merc.trajectories.stage import build_trajectories

CLASSES = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
TRAJECTORIES = TrajectoriesConfig(neighbours=3, similarities=("path", "edit"), order_permutations=0, control_pairs=100)
Dialogues = dict[str, list[tuple[str, list[int]]]]


@pytest.fixture
def write_shards(tmp_path: Path) -> Callable[..., Layout]:
    """Writes shards and trajectories of a dataset below ``tmp_path/features``: see :func:`make_shards`."""
    return lambda dataset="tiny", **more: make_shards(Layout(tmp_path / "raw", tmp_path / "features", dataset), **more)


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run below ``tmp_path/runs``: see :func:`make_run`."""
    return lambda **more: make_run(tmp_path / "runs", **more)


def random_dialogues(sizes: dict[str, int], classes: int = len(CLASSES), seed: int = 0) -> Dialogues:
    rng = np.random.default_rng(seed)
    return {
        split: [(f"{split}/dia{number}", rng.integers(-1 if number % 5 == 0 else 0, classes, rng.integers(1, 20)).tolist()) for number in range(count)]
        for split, count in sizes.items()
    }


def make_shards(
    layout: Layout,
    *,
    dialogues: Dialogues | None = None,
    classes: Sequence[str] = CLASSES,
    source: str = "A made-up corpus.",
    deviations: Sequence[str] = (),
    counts_compared: bool = True,
) -> Layout:
    """Shards with text and audio vectors; every tenth utterance of a split has no audio, and a failure row that says so."""
    dialogues = dialogues if dialogues is not None else random_dialogues({"train": 12, "dev": 4, "test": 6}, len(classes))
    meta = {"corpus": layout.dataset, "label_set": "meld7"}
    shape = schema({"text": 2, "audio": 2}, {**meta, "encoders": {}}, classes)
    counts = {}
    for split, rows in dialogues.items():
        present = iter(np.arange(sum(len(labels) for _, labels in rows)) % 10 != 3)
        records = [_row(layout.dataset, split, name, labels, [bool(next(present)) for _ in labels]) for name, labels in rows]
        silent = [
            Failure(one, "media", "audio", "silence")
            for row in records
            for one, there in zip(row["utterance_ids"], row["audio_present"], strict=True)
            if not there
        ]
        cut = [Failure(row["utterance_ids"][0], "media", "all", "truncated", "kept 60 of 305 s") for row in records[:1]]
        parquet.write(layout.shards / "dialogues" / f"{split}-00000-of-00001.parquet", pa.Table.from_pylist(records, schema=shape))
        parquet.write(layout.shards / "failures" / f"{split}-00000-of-00001.parquet", failures.table(one.row() for one in [*silent, *cut]))
        total = sum(len(labels) for _, labels in rows)
        labelled = {name: sum(labels.count(index) for _, labels in rows) for index, name in enumerate(classes)}
        counts[split] = {"dialogues": len(rows), "utterances": total, "labels": labelled, "unlabelled": total - sum(labelled.values())}
        counts[split]["present"] = {"text": total, "audio": total - len(silent)}
    provenance = {"revision": "version 1", "dim": 2, "layer": None, "pooling": "mean", "licence": "Apache-2.0", "training_data_overlap": "none"}
    encoders = {
        modality: {"name": name, "encoder": name, **provenance, "settings": {"family": name}}
        for modality, name in {"text": "ngrams", "audio": "acoustic"}.items()
    }
    info = {**meta, "schema_version": SCHEMA_VERSION, "classes": list(classes), "encoders": encoders, "counts": counts, "splits": list(dialogues)}
    info |= {
        "modalities": ["text", "audio"],
        "dims": {"text": 2, "audio": 2},
        "source": source,
        "deviations": list(deviations),
        "versions": {"merc-pipeline": "0"},
        "fingerprint": "0",
    }
    info |= {"counts_compared": counts_compared, "corpus_settings": {"reader": "meld"}, "settings": {"shards": {"row_group_dialogues": 128}}}
    files.write_json(layout.shards / "meta" / "info.json", info)
    files.write_json(layout.shards / "meta" / "stats.json", {})
    build_trajectories(TRAJECTORIES, layout, RunOptions(overwrite=True))
    return layout


def _row(corpus: str, split: str, dialogue_id: str, labels: list[int], audio: list[bool]) -> dict[str, Any]:
    size = len(labels)
    ids = [f"{dialogue_id}_utt{position}" for position in range(size)]
    nothing: dict[str, Any] = {name: [None] * size for name in ("valence", "arousal", "dominance")}
    texts = {"utterance_ids": ids, "source_utterance_ids": ids, "texts": ["a secret transcript"] * size, "emotions": ["joy"] * size, "sentiments": [""] * size}
    return {
        "corpus": corpus,
        "split": split,
        "dialogue_id": dialogue_id,
        "scenario": "",
        "n_utterances": size,
        "n_speakers": 1,
        "speakers": ["Joey"] * size,
        "speaker_index": [0] * size,
        "emotion_index": labels,
        "start_seconds": [0.0] * size,
        "end_seconds": [1.0] * size,
        "text": [[1.0, 0.0]] * size,
        "text_present": [True] * size,
        "audio": [[1.0, 0.0] if there else [0.0, 0.0] for there in audio],
        "audio_present": audio,
        **texts,
        **nothing,
    }


def make_run(
    runs: Path,
    *,
    dataset: str = "tiny",
    recipe: str = "baseline",
    scores: Sequence[tuple[float, float]] = ((0.50, 0.40), (0.54, 0.46)),
    classes: Sequence[str] = CLASSES,
    modalities: Sequence[str] = ("text", "audio"),
    epochs: int = 12,
    shards: str = "0",
    replace: dict[str, Any] | None = None,
) -> Path:
    """A run with one seed for each (dev, test) weighted F1; ``replace`` gives keys of its results other values."""
    rng = np.random.default_rng(len(recipe))
    folder = runs / dataset / recipe
    seeds = {}
    lines = []
    for seed, (dev, test) in enumerate(scores):
        confusion = rng.integers(0, 30, (len(classes), len(classes))) + np.diag(rng.integers(30, 120, len(classes)))
        per_class = {
            name: {"precision": 0.5, "recall": 0.25 * (1 + seed), "f1": 0.4, "support": int(confusion[index].sum())} for index, name in enumerate(classes)
        }
        chosen = 3 + seed
        seeds[str(seed)] = {
            "epoch": chosen,
            "dev": {"weighted_f1": dev, "accuracy": dev, "macro_f1": dev},
            "test": {"weighted_f1": test, "accuracy": test + 0.01, "macro_f1": test - 0.1, "per_class": per_class, "confusion": confusion.tolist()},
            "best_test_epoch": {"epoch": chosen + 1, "weighted_f1": test + 0.005},
        }
        for epoch in range(1, epochs + 1):
            score = dev - 0.01 * abs(epoch - chosen)
            lines.append({"seed": seed, "epoch": epoch, "train_loss": 2.0 / epoch + 0.05 * seed, "dev_weighted_f1": score})
    majority = {"weighted_f1": 0.3127, "accuracy": 0.4812}
    results = {
        "dataset": dataset,
        "recipe": recipe,
        "model": "recurrent",
        "modalities": list(modalities),
        "label_set": "meld7",
        "classes": list(classes),
        "encoders": {"text": "ngrams", "audio": "acoustic"},
        "parameters": 1234567,
        "causal": False,
        "selection": "dev weighted F1",
        "majority": {"dev": majority, "test": majority},
        "seeds": seeds,
    }
    files.write_json(folder / "results.json", results | (replace or {}))
    files.write_json(folder / "record.json", {"fingerprint": "1", "settings": {"recipes": {recipe: {"model": "recurrent"}}}, "inputs": {"shards": shards}})
    with (folder / "history.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["seed", "epoch", "train_loss", "dev_weighted_f1"])
        writer.writeheader()
        writer.writerows(lines)
    return folder


@pytest.fixture
def write_evaluation(tmp_path: Path) -> Callable[..., Path]:
    """Writes an evaluation below ``tmp_path/evaluations``: see :func:`make_evaluation`."""
    return lambda *given, **more: make_evaluation(tmp_path / "evaluations", *given, **more)


def make_evaluation(evaluations: Path, protocol: str, scores: dict[str, Any], *, dataset: str = "tiny", recipe: str = "baseline", run: str = "1") -> Path:
    """What ``merc-evaluate`` leaves of a run with that fingerprint."""
    folder = evaluations / "runs" / dataset / recipe / protocol
    files.write_json(folder / "scores.json", scores)
    files.write_json(folder / "record.json", {"fingerprint": "2", "settings": {"evaluation": {protocol: {}}}, "inputs": {"run": run, "version": 1}})
    return folder


def make_comparison(
    evaluations: Path, pairs: Sequence[dict[str, Any]], *, dataset: str = "tiny", runs: dict[str, str] | None = None, reference: str | None = None
) -> Path:
    """What ``merc-evaluate`` leaves of pairs of recipes, whose keys that are missing are None."""
    keys = ("difference", "t", "p", "p_holm", "low", "high", "significant", "seeds_needed")
    whole = [{**dict.fromkeys(keys), "seeds": 2, "note": "", **pair} for pair in pairs]
    recipes = sorted({pair[key] for pair in pairs for key in ("first", "second")})
    folder = evaluations / "comparisons" / dataset / "significance"
    files.write_json(folder / "scores.json", {"split": "test", "tables": [{"recipes": recipes, "pairs": whole}]})
    settings = {"evaluation": {"significance": {"reference": reference, "level": 0.05}}}
    inputs = {"runs": runs or dict.fromkeys(recipes, "1"), "version": 1}
    files.write_json(folder / "record.json", {"fingerprint": "3", "settings": settings, "inputs": inputs})
    return folder


def over_seeds(*seeds: dict[str, Any]) -> dict[str, Any]:
    """Scores of seeds in the form of an evaluation's, by the code that writes them."""
    return summary.over_seeds(dict(enumerate(seeds)))
