"""Calibration of a run: the temperature comes from dev, everything else from test."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from merc.evaluation.protocols.calibration import Calibration
from merc.training.metrics.calibration import best_temperature, expected_calibration_error, tempered

from ..conftest import Place


def test_the_temperature_is_chosen_on_dev_and_the_errors_are_of_test(place: Place) -> None:
    found = Calibration(Calibration.Config(bins=5)).evaluate(place.run("all"))
    rows = pq.read_table(place.runs / "tiny" / "all" / "predictions.parquet").to_pylist()
    for seed in (0, 1):
        of = {split: [row for row in rows if (row["seed"], row["split"]) == (seed, split)] for split in ("dev", "test")}
        labels = {split: np.array([row["label"] for row in some]) for split, some in of.items()}
        probabilities = {split: np.array([row["probabilities"] for row in some]) for split, some in of.items()}
        temperature = best_temperature(labels["dev"], probabilities["dev"])
        scores = found.scores["seeds"][str(seed)]
        assert scores["temperature"] == pytest.approx(temperature)
        expected = expected_calibration_error(labels["test"], tempered(probabilities["test"], temperature), 5)
        assert scores["tempered"]["expected_calibration_error"] == pytest.approx(expected)
        assert scores["raw"]["expected_calibration_error"] == pytest.approx(
            expected_calibration_error(labels["test"], probabilities["test"], 5)
        )
    curve = found.tables["reliability"].to_pylist()
    assert len(curve) == 2 * 2 * 5
    assert sum(row["support"] for row in curve) == 4 * found.scores["support"]
