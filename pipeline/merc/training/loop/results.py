"""The files of a run in ``runs/<dataset>/<recipe>/``: written seed by seed, combined at the end.

models/seed-<n>/model.safetensors  :mod:`merc.training.loop.checkpoint`
results.json                everything, per seed and over the seeds; what the report reads
metrics.json                the few numbers for ``dvc metrics``
history.csv                 one row per seed and epoch, with its phase if the recipe names phases: the loss and each of its terms, scores on
                            dev, and one on test that decides nothing; in a phase that trains several branches of a
                            model, sums of losses and means of scores
confusion.csv               actual and predicted class of every labelled test utterance, of the seed with the best dev score
predictions.parquet         one row per seed and utterance of dev and test

While seeds are unfinished, ``models/seed-<n>/`` also holds ``seed.json`` and ``predictions.parquet``; ``seed.json`` is
written last and marks the seed as done. Until then, ``phases.safetensors`` keeps the finished phases.
"""  # noqa: E501

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc import files, parquet
from merc.records.features import vectors, vectors_type
from merc.training.data.dataset import DialogueSplit
from merc.training.data.splits import TrainingData
from merc.training.loop.trainer import Trained
from merc.training.metrics.majority import majority
from merc.training.metrics.per_class import confusion, per_class
from merc.training.recipes.resolution import ResolvedRecipe

SELECTION = {"dev_weighted_f1": "dev weighted F1", "last": "last epoch"}
SCORED = ("dev", "test")
MODELS = "models"
_SCORES = ("weighted_f1", "accuracy", "macro_f1")


def predictions_schema(classes: int) -> pa.Schema:
    """Columns of ``predictions.parquet``; ``label`` is -1 outside the label set, where nothing is scored."""
    return pa.schema(
        [
            pa.field("seed", pa.int64(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("dialogue_id", pa.string(), nullable=False),
            pa.field("utterance_id", pa.string(), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            pa.field("label", pa.int64(), nullable=False),
            pa.field("predicted", pa.int64(), nullable=False),
            pa.field("probabilities", vectors_type(classes), nullable=False),
        ]
    )


def history_columns(resolved: ResolvedRecipe) -> list[str]:
    """Columns of ``history.csv``: those of :attr:`ResolvedRecipe.epoch_columns`, and scores."""
    return [*resolved.epoch_columns, "dev_weighted_f1", "dev_accuracy", "test_weighted_f1_not_used"]


def weights(folder: Path, seed: int) -> Path:
    """Path of a seed's model."""
    return _seed_folder(folder, seed) / "model.safetensors"


def finished_phases(folder: Path, seed: int) -> Path:
    """Path of the finished phases of an unfinished seed (:class:`merc.training.loop.phases.Finished`)."""
    return _seed_folder(folder, seed) / "phases.safetensors"


def is_done(folder: Path, seed: int) -> bool:
    """True if the seed was finished by this run or an interrupted one with the same fingerprint."""
    return (_seed_folder(folder, seed) / "seed.json").is_file()


def write_seed(folder: Path, trained: Trained, data: TrainingData, facts: Mapping[str, Any]) -> None:
    """Writes a seed's predictions and, last, its scores and ``facts``; the weights must already exist."""
    target = _seed_folder(folder, trained.seed)
    table = pa.concat_tables(
        predictions(split, trained.probabilities[split.name], trained.seed) for split in (data.dev, data.test)
    )
    parquet.write(target / "predictions.parquet", table, compression="zstd")
    files.write_json(
        target / "seed.json",
        {
            "scores": _seed_scores(trained, data),
            "history": trained.history,
            "facts": {**_model_facts(trained), **facts},
        },
    )


def predictions(split: DialogueSplit, probabilities_NC: NDArray[np.float32], seed: int) -> pa.Table:
    """The rows of a split, one per utterance (:func:`predictions_schema`).

    Args:
        split: the utterances.
        probabilities_NC: probability of each class, in the split's order.
        seed: seed of the model.
    """
    columns = {
        "seed": np.full(split.utterances, seed),
        "split": [split.name] * split.utterances,
        "dialogue_id": np.repeat(np.array(split.dialogue_ids, dtype=object), split.lengths.numpy()),
        "utterance_id": list(split.utterance_ids),
        "position": np.arange(split.utterances) - np.repeat(split.starts.numpy(), split.lengths.numpy()),
        "label": split.labels_cpu[:-1].numpy(),
        "predicted": probabilities_NC.argmax(axis=1),
        "probabilities": vectors(probabilities_NC),
    }
    schema = predictions_schema(probabilities_NC.shape[1])
    return pa.table(
        {name: pa.array(values, type=schema.field(name).type) for name, values in columns.items()}, schema=schema
    )


def combine(folder: Path, resolved: ResolvedRecipe, data: TrainingData, facts: Mapping[str, Any]) -> None:
    """Combines the seeds' files and removes them, except the weights.

    Args:
        folder: folder of the run.
        resolved: the resolved recipe.
        data: its train split determines the majority class.
        facts: ``dataset``, ``label_set``, ``encoders``, ``tag`` (:func:`merc.encoders.engine.adapted.tag`).
    """
    seeds = {seed: files.read_json(_seed_folder(folder, seed) / "seed.json") for seed in resolved.recipe.seeds}
    scores = {seed: found["scores"] for seed, found in seeds.items()}
    first = seeds[resolved.recipe.seeds[0]]
    results = {
        **facts,
        "recipe": resolved.name,
        "model": resolved.recipe.model,
        "modalities": list(resolved.recipe.modalities),
        "classes": list(data.classes),
        "unlabelled_in_context": any(
            bool((split.labels_cpu[:-1] < 0).any()) for split in (data.train, data.dev, data.test)
        ),
        **first["facts"],
        "selection": SELECTION[resolved.recipe.selection],
        "majority": {split: _majority(data, split) for split in SCORED},
        "seeds": {str(seed): found for seed, found in scores.items()},
        "mean": {
            split: {name: statistics.fmean(_over_seeds(scores, split, name)) for name in _SCORES} for split in SCORED
        },
        "std": {split: {name: _std(_over_seeds(scores, split, name)) for name in _SCORES} for split in SCORED},
    }
    table = pa.concat_tables(parquet.read(_seed_folder(folder, seed) / "predictions.parquet") for seed in seeds)
    best = max(seeds, key=lambda seed: scores[seed]["dev"]["weighted_f1"])  # the first in case of ties
    parquet.write(folder / "predictions.parquet", table, compression="zstd")
    files.write_csv(
        folder / "history.csv", history_columns(resolved), [row for found in seeds.values() for row in found["history"]]
    )
    files.write_csv(folder / "confusion.csv", ("actual", "predicted"), _confusion_rows(table, best, data.classes))
    files.write_json(folder / "metrics.json", _metrics(results))
    files.write_json(folder / "results.json", results)
    for seed in seeds:
        for name in ("seed.json", "predictions.parquet"):
            (_seed_folder(folder, seed) / name).unlink()
        finished_phases(folder, seed).unlink(missing_ok=True)


def _seed_folder(folder: Path, seed: int) -> Path:
    return folder / MODELS / f"seed-{seed}"


def _seed_scores(trained: Trained, data: TrainingData) -> dict[str, Any]:
    labels = data.test.labels_cpu[:-1].numpy()
    labelled = labels >= 0
    true, predicted = labels[labelled], trained.probabilities["test"].argmax(axis=1)[labelled]
    test = {
        **trained.test,
        "per_class": per_class(true, predicted, data.classes),
        "confusion": confusion(true, predicted, len(data.classes)),
    }
    found = {"epoch": trained.epoch, "dev": trained.dev, "test": test, "best_test_epoch": trained.best_test}
    if trained.phases:
        found["phases"] = {
            row["phase"]: {"epoch": row["epoch"], "dev_weighted_f1": row["dev_weighted_f1"]} for row in trained.phases
        }
    return found


def _model_facts(trained: Trained) -> dict[str, Any]:
    return {"parameters": sum(weight.numel() for weight in trained.model.parameters()), "causal": trained.model.causal}


def _majority(data: TrainingData, split: str) -> dict[str, float]:
    train, scored = (part.labels[:-1][part.labelled].cpu().numpy() for part in (data.train, getattr(data, split)))
    return majority(train, scored, len(data.classes))


def _over_seeds(scores: Mapping[int, Mapping[str, Any]], split: str, name: str) -> list[float]:
    return [found[split][name] for found in scores.values()]


def _std(values: Sequence[float]) -> float | None:
    """Standard deviation with denominator n - 1; None for one seed, which says nothing about the spread."""
    return statistics.stdev(values) if len(values) > 1 else None


def _metrics(results: Mapping[str, Any]) -> dict[str, Any]:
    def of(split: str, name: str) -> dict[str, float | None]:
        return {
            "mean": results["mean"][split][name],
            "std": results["std"][split][name],
            "majority": results["majority"][split][name],
        }

    return {split: {name: of(split, name) for name in ("weighted_f1", "accuracy")} for split in SCORED}


def _confusion_rows(table: pa.Table, seed: int, classes: Sequence[str]) -> list[dict[str, str]]:
    rows = table.filter((pc.field("seed") == seed) & (pc.field("split") == "test") & (pc.field("label") >= 0))
    pairs = zip(rows["label"].to_pylist(), rows["predicted"].to_pylist(), strict=True)
    return [{"actual": classes[actual], "predicted": classes[predicted]} for actual, predicted in pairs]
