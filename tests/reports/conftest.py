"""Shards and runs as written by the stages before the report, made from random labels and scores."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from merc import files, parquet, timing
from merc.evaluation.engine import summary
from merc.job import RECORD, RunOptions
from merc.layout import Layout
from merc.media.faces import jpeg
from merc.media.pack import flac, write_part
from merc.media.rows import empty
from merc.media.tasks import Clip
from merc.records import failures
from merc.records.failures import Failure
from merc.records.features import vectors
from merc.shards.format import reader
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


@pytest.fixture
def retell() -> Callable[[Layout, dict[str, tuple[str, str]]], None]:
    """Changes (speaker, text) of utterances in existing shards, by their ids."""
    return _retell


@pytest.fixture
def write_predictions() -> Callable[..., Path]:
    """Writes the predictions of a run for existing shards: see :func:`make_predictions`."""
    return make_predictions


@pytest.fixture
def write_faces() -> Callable[..., None]:
    """Writes media for existing shards: see :func:`make_media`."""
    return make_media


@pytest.fixture(scope="session")
def making() -> SimpleNamespace:
    """The functions behind these fixtures, for shared fixtures: they take the folder to write to."""
    return SimpleNamespace(
        shards=make_shards, run=make_run, predictions=make_predictions, media=make_media, retell=_retell
    )


def _retell(layout: Layout, words: dict[str, tuple[str, str]]) -> None:
    for path in (layout.shards / "dialogues").glob("*.parquet"):
        table = parquet.read(path)
        rows = table.to_pylist()
        for row in rows:
            told = [
                words.get(one, (speaker, text))
                for one, speaker, text in zip(row["utterance_ids"], row["speakers"], row["texts"], strict=True)
            ]
            row["speakers"], row["texts"] = [speaker for speaker, _ in told], [text for _, text in told]
        parquet.write(path, pa.Table.from_pylist(rows, schema=table.schema))


def make_predictions(
    path: Path,
    layout: Layout,
    *,
    said: dict[str, tuple[int, float]] | None = None,
    classes: int = len(CLASSES),
    seeds: Sequence[int] = (0, 1),
    splits: Sequence[str] = ("dev", "test"),
    without: Sequence[str] = (),
    more: dict[str, str] | None = None,
) -> Path:
    """A Parquet file as written by a training. Every seed predicts the same: the true class with 0.7 (for unlabelled
    utterances the first class), or what ``said`` gives.

    Args:
        path: where to write the file.
        layout: of the shards with the utterances.
        said: utterance → class and its probability; the others share the rest.
        classes: number of classes of the run.
        seeds: of the run.
        splits: splits with predictions.
        without: utterances without predictions.
        more: further columns, the same everywhere.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("split", "dialogue_id", "utterance_id", "position", "label")}
    for split in splits:
        there = (
            reader.read_split(layout.shards, split, ["dialogue_id", "utterance_ids", "emotion_index"])
            if split in reader.splits(layout.shards)
            else pa.table({})
        )
        for row in there.to_pylist():
            for position, (one, label) in enumerate(zip(row["utterance_ids"], row["emotion_index"], strict=True)):
                if one not in without:
                    for name, value in zip(columns, (split, row["dialogue_id"], one, position, label), strict=True):
                        columns[name].append(value)
    chosen = [
        (said or {}).get(one, (min(max(label, 0), classes - 1), 0.7))
        for one, label in zip(columns["utterance_id"], columns["label"], strict=True)
    ]
    probabilities = np.array([[(1 - share) / (classes - 1)] * classes for _, share in chosen], np.float32).reshape(
        -1, classes
    )
    probabilities[np.arange(len(chosen)), [index for index, _ in chosen]] = [share for _, share in chosen]
    strings = {name: pa.array(columns[name], pa.string()) for name in ("split", "dialogue_id", "utterance_id")}
    of_seed = {
        **columns,
        **strings,
        "predicted": [index for index, _ in chosen],
        "probabilities": vectors(probabilities),
    }
    of_seed |= {name: [value] * len(chosen) for name, value in (more or {}).items()}
    parquet.write(path, pa.concat_tables([pa.table({"seed": np.full(len(chosen), seed), **of_seed}) for seed in seeds]))
    return path


def make_media(layout: Layout, *, without: Sequence[str] = (), doubtful: Sequence[str] = ()) -> None:
    """Media of the utterances of shards: two uniformly grey crops each, and a tenth of a second of audio; those in
    ``without`` have no face.
    """
    rows = []
    for split in reader.splits(layout.shards):
        for row in reader.read_split(layout.shards, split, ["dialogue_id", "utterance_ids"]).to_pylist():
            for one in row["utterance_ids"]:
                grey = 20 * (len(rows) % 12) + 10
                crop = jpeg(np.full((80, 80, 3), grey, np.uint8), 95)
                seen = {
                    "faces": [crop, crop],
                    "face_seconds": [0.0, 0.5],
                    "face_scores": [0.9, 0.9],
                    "visual_status": "ok",
                }
                media = {
                    **empty(Clip(one, row["dialogue_id"], "", "", "full", None, None, None, None)),
                    "face_coverage": 0.2 if one in doubtful else 1.0,
                }
                media |= {"audio": flac(np.zeros(1600, np.float32))[0], "audio_status": "ok"}
                rows.append({**media, **({"visual_status": "no_face"} if one in without else seen)})
    write_part(layout.media / "part-00000.parquet", rows)
    files.write_json(layout.media / RECORD, {"fingerprint": "0"})


def random_dialogues(sizes: dict[str, int], classes: int = len(CLASSES), seed: int = 0) -> Dialogues:
    rng = np.random.default_rng(seed)
    return {
        split: [
            (f"{split}/dia{number}", rng.integers(-1 if number % 5 == 0 else 0, classes, rng.integers(1, 20)).tolist())
            for number in range(count)
        ]
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
    """Shards with text and audio vectors; every tenth utterance of a split has no audio, and a failure row for it."""
    dialogues = (
        dialogues if dialogues is not None else random_dialogues({"train": 12, "dev": 4, "test": 6}, len(classes))
    )
    meta = {"corpus": layout.dataset, "label_set": "meld7"}
    shape = schema({"text": 2, "audio": 2}, {**meta, "encoders": {}}, classes)
    counts = {}
    for split, rows in dialogues.items():
        present = iter(np.arange(sum(len(labels) for _, labels in rows)) % 10 != 3)
        records = [
            _row(layout.dataset, split, name, labels, [bool(next(present)) for _ in labels]) for name, labels in rows
        ]
        silent = [
            Failure(one, "media", "audio", "silence")
            for row in records
            for one, there in zip(row["utterance_ids"], row["audio_present"], strict=True)
            if not there
        ]
        cut = [Failure(row["utterance_ids"][0], "media", "all", "truncated", "kept 60 of 305 s") for row in records[:1]]
        parquet.write(
            layout.shards / "dialogues" / f"{split}-00000-of-00001.parquet", pa.Table.from_pylist(records, schema=shape)
        )
        parquet.write(
            layout.shards / "failures" / f"{split}-00000-of-00001.parquet",
            failures.table(one.row() for one in [*silent, *cut]),
        )
        total = sum(len(labels) for _, labels in rows)
        labelled = {name: sum(labels.count(index) for _, labels in rows) for index, name in enumerate(classes)}
        counts[split] = {
            "dialogues": len(rows),
            "utterances": total,
            "labels": labelled,
            "unlabelled": total - sum(labelled.values()),
        }
        counts[split]["present"] = {"text": total, "audio": total - len(silent)}
    provenance = {
        "revision": "version 1",
        "dim": 2,
        "layer": None,
        "pooling": "mean",
        "licence": "Apache-2.0",
        "training_data_overlap": "none",
    }
    encoders = {
        modality: {"name": name, "encoder": name, **provenance, "settings": {"family": name}}
        for modality, name in {"text": "ngrams", "audio": "acoustic"}.items()
    }
    info = {
        **meta,
        "schema_version": SCHEMA_VERSION,
        "classes": list(classes),
        "encoders": encoders,
        "counts": counts,
        "splits": list(dialogues),
    }
    info |= {
        "modalities": ["text", "audio"],
        "dims": {"text": 2, "audio": 2},
        "source": source,
        "deviations": list(deviations),
        "versions": {"merc-pipeline": "0"},
        "fingerprint": "0",
    }
    info |= {
        "counts_compared": counts_compared,
        "corpus_settings": {"reader": "meld"},
        "settings": {"shards": {"row_group_dialogues": 128}},
    }
    files.write_json(layout.shards / "meta" / "info.json", info)
    files.write_json(layout.shards / "meta" / "stats.json", {})
    build_trajectories(TRAJECTORIES, layout, RunOptions(overwrite=True))
    return layout


def _row(corpus: str, split: str, dialogue_id: str, labels: list[int], audio: list[bool]) -> dict[str, Any]:
    size = len(labels)
    ids = [f"{dialogue_id}_utt{position}" for position in range(size)]
    nothing: dict[str, Any] = {name: [None] * size for name in ("valence", "arousal", "dominance")}
    texts = {
        "utterance_ids": ids,
        "source_utterance_ids": ids,
        "texts": ["a secret transcript"] * size,
        "emotions": ["joy"] * size,
        "sentiments": [""] * size,
    }
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
    """A run with one seed for each (dev, test) weighted F1; ``replace`` overrides keys of its results."""
    rng = np.random.default_rng(len(recipe))
    folder = runs / dataset / recipe
    seeds = {}
    lines = []
    for seed, (dev, test) in enumerate(scores):
        confusion = rng.integers(0, 30, (len(classes), len(classes))) + np.diag(rng.integers(30, 120, len(classes)))
        per_class = {
            name: {"precision": 0.5, "recall": 0.25 * (1 + seed), "f1": 0.4, "support": int(confusion[index].sum())}
            for index, name in enumerate(classes)
        }
        chosen = 3 + seed
        seeds[str(seed)] = {
            "epoch": chosen,
            "dev": {"weighted_f1": dev, "accuracy": dev, "macro_f1": dev},
            "test": {
                "weighted_f1": test,
                "accuracy": test + 0.01,
                "macro_f1": test - 0.1,
                "per_class": per_class,
                "confusion": confusion.tolist(),
            },
            "best_test_epoch": {"epoch": chosen + 1, "weighted_f1": test + 0.005},
        }
        for epoch in range(1, epochs + 1):
            score = dev - 0.01 * abs(epoch - chosen)
            lines.append(
                {"seed": seed, "epoch": epoch, "train_loss": 2.0 / epoch + 0.05 * seed, "dev_weighted_f1": score}
            )
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
    files.write_json(
        folder / "record.json",
        {"fingerprint": "1", "settings": {"recipes": {recipe: {"model": "recurrent"}}}, "inputs": {"shards": shards}},
    )
    with (folder / "history.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["seed", "epoch", "train_loss", "dev_weighted_f1"])
        writer.writeheader()
        writer.writerows(lines)
    return folder


def make_times(runs: Path, *, dataset: str = "tiny", recipe: str = "baseline", seed: int = 0, **more: Any) -> Path:
    """The times of a seed's epochs, 2 seconds of wall-clock time each; ``more`` overrides keys."""
    path = timing.path_of(runs, dataset, recipe, seed)
    files.write_json(
        path,
        {"fingerprint": "1", "device": "cpu", "threads": 1, "epochs": 12, "wall_seconds": 2.0, "cpu_seconds": 1.5}
        | more,
    )
    return path


@pytest.fixture
def write_evaluation(tmp_path: Path) -> Callable[..., Path]:
    """Writes an evaluation below ``tmp_path/evaluations``: see :func:`make_evaluation`."""
    return lambda *given, **more: make_evaluation(tmp_path / "evaluations", *given, **more)


def make_evaluation(
    evaluations: Path,
    protocol: str,
    scores: dict[str, Any],
    *,
    dataset: str = "tiny",
    recipe: str = "baseline",
    run: str = "1",
) -> Path:
    """What ``merc-evaluate`` writes for a run with that fingerprint."""
    folder = evaluations / "runs" / dataset / recipe / protocol
    files.write_json(folder / "scores.json", scores)
    files.write_json(
        folder / "record.json",
        {"fingerprint": "2", "settings": {"evaluation": {protocol: {}}}, "inputs": {"run": run, "version": 1}},
    )
    return folder


def make_comparison(
    evaluations: Path,
    pairs: Sequence[dict[str, Any]],
    *,
    dataset: str = "tiny",
    runs: dict[str, str] | None = None,
    reference: str | None = None,
) -> Path:
    """What ``merc-evaluate`` writes for pairs of recipes; missing keys are None."""
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
    """Scores of seeds in the form of an evaluation's, made by the code that writes them."""
    return summary.over_seeds(dict(enumerate(seeds)))
