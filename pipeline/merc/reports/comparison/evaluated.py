"""The results of ``merc-evaluate`` for a run, as drawn on the page of comparisons: values of each seed, and curves.

Evaluations that do not exist, or belong to an earlier training of the run, are not drawn.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from merc import files, parquet
from merc.errors import BadTable
from merc.reports.evaluations import SCORES, is_of

EARLIER = "earlier"
"""Marks an evaluation of an earlier training."""
_DRAWN_POINTS = 1500


class _OverSeeds(BaseModel):
    model_config = ConfigDict(extra="allow")

    seeds: dict[str, dict[str, Any]]


def of_run(folder: Path, fingerprint: str | None) -> dict[str, Any]:
    """Protocol → what is drawn of it, :data:`EARLIER`, or None if it does not exist.

    Args:
        folder: ``evaluations/runs/<dataset>/<recipe>``.
        fingerprint: fingerprint of the run; None if it has no record, so that no evaluation is known to belong to it.

    Raises:
        BadTable: if a file was not written by the evaluation.
    """
    return {name: _one(folder / name, fingerprint, drawn) for name, drawn in _DRAWN.items()}


def _one(folder: Path, fingerprint: str | None, drawn: Callable[[Path, dict[str, Any]], Any]) -> Any:
    path = folder / SCORES
    if not path.is_file():
        return None
    if not is_of(folder, fingerprint):
        return EARLIER
    return drawn(path, files.read_record(path, _OverSeeds, f"scores of {folder.name}"))


def _shift(path: Path, scores: dict[str, Any]) -> dict[str, Any]:
    """Definition → ``shift`` and ``no_shift`` → utterances, and weighted F1 of each seed."""
    first = next(iter(scores["seeds"].values()))
    return {
        definition: {
            part: {
                "support": _at(path, scores, "support", definition, part),
                "values": _values(path, scores, definition, part, "weighted_f1"),
            }
            for part in ("no_shift", "shift")
        }
        for definition in first
    }


def _context(path: Path, scores: dict[str, Any]) -> dict[str, list[float | None]]:
    """Kind → weighted F1 of each seed; ``raw`` comes first."""
    return {kind: _values(path, scores, kind, "weighted_f1") for kind in next(iter(scores["seeds"].values()))}


def _calibration(path: Path, scores: dict[str, Any]) -> dict[str, Any]:
    """Error of each seed without and with the temperature, and the curve over the seeds: confidence, accuracy,
    utterances.
    """
    errors = {name: _values(path, scores, name, "expected_calibration_error") for name in ("raw", "tempered")}
    table = parquet.read(
        path.with_name("reliability.parquet"), ["tempered", "low", "support", "confidence", "accuracy"]
    )
    return {**errors, "curve": _curve([row for row in table.to_pylist() if not row["tempered"] and row["support"]])}


def _curve(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Over all seeds, a bin's mean is weighted by the number of utterances."""
    curve = []
    for low in sorted({row["low"] for row in rows}):
        of_bin = [row for row in rows if row["low"] == low]
        count = sum(row["support"] for row in of_bin)
        means = [sum(row["support"] * row[name] for row in of_bin) / count for name in ("confidence", "accuracy")]
        curve.append([*(round(mean, 4) for mean in means), count])
    return curve


def _robustness(path: Path, scores: dict[str, Any]) -> dict[str, list[list[float]]]:
    """Modalities → rate at which they are dropped, and mean weighted F1 over the seeds."""
    first = next(iter(scores["seeds"].values()))
    found: dict[str, list[list[float]]] = {}
    for dropped, rates in first.items():
        values = {
            rate: [one for one in _values(path, scores, dropped, rate, "weighted_f1") if one is not None]
            for rate in rates
        }
        found[dropped] = sorted([float(rate), round(fmean(of_rate), 5)] for rate, of_rate in values.items() if of_rate)
    return found


def _representations(path: Path, scores: dict[str, Any]) -> dict[str, Any]:
    """Silhouette of each seed, and the map: label, x and y in thousandths of its larger side."""
    table = parquet.read(path.with_name("points.parquet"), ["label", "x", "y"])
    return {
        "seed": scores.get("map_of_seed"),
        "silhouette": _values(path, scores, "silhouette"),
        "points": _points(table),
    }


def _points(table: pa.Table) -> list[list[int]]:
    if not table.num_rows:
        return []
    x, y = (table[name].to_numpy().astype(float) for name in ("x", "y"))
    side = max(float(x.max() - x.min()), float(y.max() - y.min())) or 1.0
    placed = [((values - values.min()) / side * 1000).round().astype(int).tolist() for values in (x, y)]
    return [list(point) for point in zip(table["label"].to_pylist(), *placed, strict=True)][:_DRAWN_POINTS]


_DRAWN: Mapping[str, Callable[[Path, dict[str, Any]], Any]] = {
    "emotion_shift": _shift,
    "context_substitution": _context,
    "calibration": _calibration,
    "robustness": _robustness,
    "representations": _representations,
}


def _values(path: Path, scores: Mapping[str, Any], *keys: str) -> list[float | None]:
    """The value under some keys for each seed; None if there is no such score."""
    return [number(_at(path, seed, *keys)) for seed in scores["seeds"].values()]


def _at(path: Path, tree: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(tree, Mapping) or key not in tree:
            raise BadTable(f"{path}: has no {'.'.join(keys)}; make it again: merc-evaluate --overwrite")
        tree = tree[key]
    return tree


def number(value: Any) -> float | None:
    """A number for the data of a page; None if it is not a number.

    >>> number(0.123456789), number(float("nan")), number(None)
    (0.12346, None, None)
    """
    return round(float(value), 5) if isinstance(value, int | float) and math.isfinite(value) else None
