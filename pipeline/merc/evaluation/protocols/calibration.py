"""Whether the confidence of a run's models matches their accuracy, before and after scaling with a temperature chosen
on dev.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from merc.evaluation.engine.base import Found, Protocol
from merc.evaluation.engine.runs import Run
from merc.evaluation.engine.summary import over_seeds
from merc.params import Settings
from merc.training.metrics.calibration import (
    best_temperature,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    tempered,
)

_CURVE = pa.schema(
    [
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("tempered", pa.bool_(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("low", "high")),
        pa.field("support", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("confidence", "accuracy")),
    ]
)


class Calibration(Protocol):
    """Calibration on test: ``temperature``, error and likelihood ``raw`` and ``tempered`` over the seeds;
    ``reliability.parquet`` has the curves.
    """

    class Config(Settings):
        """Settings of calibration."""

        bins: int = Field(default=15, ge=1, le=1000)
        """Equal ranges of confidence from 0 to 1; 15 as in Guo et al. 2017."""

    def evaluate(self, run: Run) -> Found:
        """From the run's predictions on dev and test."""
        dev, test = run.predictions("dev"), run.predictions("test")
        found: dict[int, dict[str, Any]] = {}
        curves: list[dict[str, Any]] = []
        labels, kept = test.labels[test.labels >= 0], test.labels >= 0
        for seed in run.seeds:
            temperature = best_temperature(
                dev.labels[dev.labels >= 0], dev.of(seed)[dev.labels >= 0].astype(np.float64)
            )
            raw = test.of(seed)[kept].astype(np.float64)
            given = {"raw": raw, "tempered": tempered(raw, temperature)}
            found[seed] = {
                "temperature": temperature,
                **{name: self._scores(labels, one) for name, one in given.items()},
            }
            for name, one in given.items():
                curves += [
                    {"seed": seed, "tempered": name == "tempered", **row}
                    for row in reliability(labels, one, self.config.bins)
                ]
        scores = {"split": "test", "temperature_chosen_on": "dev", "support": len(labels), **over_seeds(found)}
        return Found(scores=scores, tables={"reliability": pa.Table.from_pylist(curves, schema=_CURVE)})

    def _scores(self, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
        return {
            "expected_calibration_error": expected_calibration_error(labels, probabilities, self.config.bins),
            "negative_log_likelihood": negative_log_likelihood(labels, probabilities),
        }
