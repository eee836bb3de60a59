"""The files next to a run, as written by training and ``merc-evaluate``: predictions and evaluations, made of random
numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from merc import files, parquet
from merc.evaluation.engine.summary import over_seeds

IDS = tuple(f"test/dia{number // 5}_utt{number % 5}" for number in range(30))
DIALOGUES = tuple(one.rpartition("_")[0] for one in IDS)


def write_predictions(
    folder: Path, said: Sequence[Sequence[int]], labels: Sequence[int], *, classes: int = 7, ids: Sequence[str] = IDS
) -> None:
    """``predictions.parquet`` of a run whose seeds predict given classes for the test utterances; the dev rows before
    them should be ignored.
    """
    tables = [
        _rows(seed, split, of_seed, labels, classes, ids)
        for seed, of_seed in enumerate(said)
        for split in ("dev", "test")
    ]
    parquet.write(folder / "predictions.parquet", pa.concat_tables(tables))


def _rows(
    seed: int, split: str, said: Sequence[int], labels: Sequence[int], classes: int, ids: Sequence[str]
) -> pa.Table:
    count = len(said)
    probabilities = np.full((count, classes), 0.4 / max(classes - 1, 1), dtype=np.float32)
    probabilities[np.arange(count), said] = 0.6
    own = list(ids[:count]) if split == "test" else [one.replace("test", "dev") for one in ids[:count]]
    return pa.table(
        {
            "seed": pa.array([seed] * count, pa.int64()),
            "split": [split] * count,
            "dialogue_id": [one.rpartition("_")[0] for one in own],
            "utterance_id": own,
            "position": pa.array(range(count), pa.int32()),
            "label": pa.array(labels[:count], pa.int64()),
            "predicted": pa.array(said, pa.int64()),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), classes),
        }
    )


def write_evaluations(
    evaluations: Path, recipe: str, *, dataset: str = "tiny", fingerprint: str = "1", seeds: int = 2, base: float = 0.5
) -> None:
    """Every evaluation shown by the page, for a run that was evaluated with a fingerprint."""
    home = evaluations / "runs" / dataset / recipe

    def score(value: float) -> dict[str, float]:
        return {"weighted_f1": value, "accuracy": value, "macro_f1": value}

    def write(name: str, of_seed: Any, **more: Any) -> Path:
        found = over_seeds({seed: of_seed(base + 0.01 * seed) for seed in range(seeds)})
        files.write_json(home / name / "scores.json", {"split": "test", **more, **found})
        files.write_json(
            home / name / "record.json",
            {"fingerprint": "9", "settings": {}, "inputs": {"run": fingerprint, "version": 1}},
        )
        return home / name

    parts = ("labelled", "transcript")
    support = {definition: {"no_shift": 10, "shift": 5} for definition in parts}
    write(
        "emotion_shift",
        lambda value: {name: {"shift": score(value - 0.1), "no_shift": score(value)} for name in parts},
        support=support,
    )
    write(
        "context_substitution",
        lambda value: {"eccs": score(value - 0.02), "eics": score(value - 0.05), "raw": score(value)},
        replaced="earlier utterances",
    )
    write("robustness", lambda value: {"text": {rate: score(value - float(rate) / 4) for rate in ("0", "0.5", "0.9")}})
    error = {"negative_log_likelihood": 1.0}
    folder = write(
        "calibration",
        lambda value: {
            "temperature": 1.5,
            **{name: {"expected_calibration_error": value / 5, **error} for name in ("raw", "tempered")},
        },
        support=30,
    )
    rows = [
        {
            "seed": seed,
            "tempered": tempered,
            "low": low,
            "high": low + 0.5,
            "support": int(10 * low),
            "confidence": low + 0.25,
            "accuracy": low + 0.2,
        }
        for seed in range(seeds)
        for tempered in (False, True)
        for low in (0.0, 0.5)
    ]
    parquet.write(folder / "reliability.parquet", pa.Table.from_pylist(rows))
    folder = write(
        "representations",
        lambda value: {"silhouette": value / 10, "by_emotion": {"joy": None}},
        map_of_seed=0,
        utterances=20,
    )
    rng = np.random.default_rng(len(recipe))
    points = {"seed": [0] * 20, "utterance_id": list(IDS[:20]), "label": (np.arange(20) % 7).tolist()}
    parquet.write(
        folder / "points.parquet",
        pa.table({**points, **{name: rng.normal(size=20).astype(np.float32) for name in ("x", "y")}}),
    )


def write_significance(
    evaluations: Path, pairs: Sequence[dict[str, Any]], fingerprints: dict[str, str], *, dataset: str = "tiny"
) -> None:
    """The comparison of all runs; a pair has the values of a significant one, overridden by the given ones."""
    whole = {
        "seeds": 2,
        "difference": 0.02,
        "t": 3.0,
        "p": 0.01,
        "p_holm": 0.02,
        "low": 0.01,
        "high": 0.03,
        "significant": True,
        "seeds_needed": 4,
        "note": "",
    }
    folder = evaluations / "comparisons" / dataset / "significance"
    about = {"label_set": "meld7", "classes": [], "encoders": "frozen", "shards": "0", "recipes": list(fingerprints)}
    files.write_json(
        folder / "scores.json",
        {
            "split": "test",
            "score": "weighted_f1",
            "tables": [{**about, "pairs": [{**whole, **pair} for pair in pairs]}],
        },
    )
    files.write_json(
        folder / "record.json", {"fingerprint": "9", "settings": {}, "inputs": {"runs": fingerprints, "version": 1}}
    )
