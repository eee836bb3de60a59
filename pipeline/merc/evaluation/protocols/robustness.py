"""Scores with audio, faces or text missing from a part of the utterances
(:mod:`merc.training.metrics.modality_dropout`).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import fmean
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from merc.evaluation.engine.base import Found, Protocol
from merc.evaluation.engine.runs import Run, SeedModel
from merc.evaluation.engine.summary import over_seeds
from merc.params import Settings
from merc.training.loop.trainer import predict, scores
from merc.training.metrics.modality_dropout import without_modalities

_ROWS = pa.schema(
    [
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("dropped", pa.string(), nullable=False),
        pa.field("rate", pa.float64(), nullable=False),
        pa.field("draw", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("weighted_f1", "accuracy", "macro_f1")),
    ]
)


class Robustness(Protocol):
    """Robustness on test: ``dropped`` (such as ``text+audio``) → rate → scores over the seeds, means over the draws,
    which ``scores.parquet`` has one by one.
    """

    class Config(Settings):
        """Settings of robustness."""

        rates: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
            default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), min_length=1
        )
        """Shares of the utterances having a modality that lose it."""
        draw_seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
        """Seeds; each gives one choice of the utterances."""
        most_dropped: int = Field(default=3, ge=1, le=3)
        """Maximum number of modalities dropped at the same rate; each independently, so that an utterance may lose one
        and keep another.
        """

    def evaluate(self, run: Run) -> Found:
        """Scores the test split at every rate, for each modality and several together."""
        rows = [row for one in run.models() for row in self._rows(one, run.facts.modalities)]
        found = {seed: _means([row for row in rows if row["seed"] == seed]) for seed in run.seeds}
        return Found(
            scores={"split": "test", **over_seeds(found)}, tables={"scores": pa.Table.from_pylist(rows, schema=_ROWS)}
        )

    def _rows(self, one: SeedModel, modalities: Sequence[str]) -> Iterator[dict[str, Any]]:
        split = one.split("test")
        labels = split.labels_cpu[:-1].numpy()
        sets = [
            names for number in range(1, self.config.most_dropped + 1) for names in combinations(modalities, number)
        ]
        whole = scores(labels, predict(one.model, split), one.model.classes)
        for names in sets:
            for rate in self.config.rates:
                for draw in self.config.draw_seeds:
                    poorer = without_modalities(split, dict.fromkeys(names, rate), draw)
                    found = scores(labels, predict(one.model, poorer), one.model.classes) if rate else whole
                    yield {"seed": one.seed, "dropped": "+".join(names), "rate": rate, "draw": draw, **found}


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Modalities → rate → score, mean over the draws."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        alike = [one for one in rows if (one["dropped"], one["rate"]) == (row["dropped"], row["rate"])]
        means = {name: fmean(one[name] for one in alike) for name in ("weighted_f1", "accuracy", "macro_f1")}
        found.setdefault(row["dropped"], {})[f"{row['rate']:g}"] = means
    return found
