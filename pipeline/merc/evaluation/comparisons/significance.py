"""Which recipes differ, over seeds and over test dialogues (:mod:`merc.training.metrics.significance`).

Recipes are compared within a table: those on the same shards, and so with the same labels and utterances, and with
encoders of the same kind, frozen or adapted. Holm's correction applies within a table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from merc.errors import BadSettings, BadTable, nearest
from merc.evaluation.engine.base import Comparison, Found
from merc.evaluation.engine.runs import Predicted, Run
from merc.log import logger
from merc.params import Settings
from merc.training.metrics import significance
from merc.training.metrics.weighted_f1 import weighted_f1

ONE_SEED = "fewer than two seeds in common: no significance is claimed"
_COLUMNS = {
    "first": pa.string(),
    "second": pa.string(),
    "seeds": pa.int64(),
    **dict.fromkeys(("difference", "t", "p", "p_holm", "low", "high"), pa.float64()),
    "significant": pa.bool_(),
    "seeds_needed": pa.int64(),
    "note": pa.string(),
}
_ROWS = pa.schema([("table", pa.int64()), *_COLUMNS.items()])


class Significance(Comparison):
    """Significance of differences in test weighted F1: ``tables`` of pairs of recipes, also in ``pairs.parquet``.

    A pair has its ``difference`` (first - second), ``t``, ``p`` and ``p_holm`` of the paired t-test over the seeds that
    both have, the interval ``low`` to ``high`` of the bootstrap over dialogues, whether both agree (``significant``;
    None with fewer than two seeds in common), and ``seeds_needed`` to detect a difference of this size.
    """

    class Config(Settings):
        """Settings of the tests."""

        recipes: tuple[str, ...] = ()
        """Recipes that are compared; none: all finished ones."""
        reference: str | None = None
        """A recipe that all others are compared with, which leaves fewer tests to correct for; null: all pairs are
        compared.
        """
        level: float = Field(default=0.05, gt=0, lt=1)
        """Level that the corrected p must be below; the interval contains the rest, 95 % of the resamples."""
        resamples: int = Field(default=10_000, ge=100)
        """Number of bootstrap resamples of the dialogues."""
        bootstrap_seed: int = Field(default=0, ge=0)
        """Seed of the resampling."""
        power: float = Field(default=0.8, gt=0, lt=1)
        """Power, the probability of finding a true difference, for ``seeds_needed``."""

    def compare(self, runs: Sequence[Run]) -> Found:
        """From the runs' predictions on test."""
        tables: dict[tuple[Any, ...], list[Run]] = {}
        for run in self._wanted(runs):
            tables.setdefault((run.shards, run.facts.label_set, run.classes, run.facts.tag), []).append(run)
        if len(tables) > 1:
            apart = "; ".join(", ".join(run.recipe for run in some) for some in tables.values())
            logger.warning(
                "not compared with each other, since shards, labels or the kind of encoder differ: %s",
                apart,
                extra={"tables": len(tables)},
            )
        made = [self._table(some) for some in tables.values()]
        rows = [{"table": number, **pair} for number, table in enumerate(made) for pair in table["pairs"]]
        return Found(
            scores={"split": "test", "score": "weighted_f1", "tables": made},
            tables={"pairs": pa.Table.from_pylist(rows, schema=_ROWS)},
        )

    def _wanted(self, runs: Sequence[Run]) -> list[Run]:
        there = {run.recipe: run for run in runs}
        named = self.config.recipes or tuple(there)
        for name in (*named, *([self.config.reference] if self.config.reference else [])):
            if name not in there:
                raise BadSettings(
                    f"evaluation.significance names {name!r}, which has no finished run; {nearest(name, list(there))}"
                )
        return [run for name, run in there.items() if name in named or name == self.config.reference]

    def _table(self, runs: Sequence[Run]) -> dict[str, Any]:
        said = {run.recipe: run.predictions("test") for run in runs}
        first = said[runs[0].recipe]
        for run in runs:
            if said[run.recipe].utterance_ids != first.utterance_ids or not np.array_equal(
                said[run.recipe].labels, first.labels
            ):
                raise BadTable(
                    f"{run.folder}: its test utterances or labels are not those of {runs[0].folder}, on the same"
                    " shards; retrain one of them"
                )
        names = [run.recipe for run in runs]
        tests = _Tests(self.config, said, len(runs[0].classes))
        found = [tests.pair(one, other) for one, other in self._pairs(names)]
        tested = [pair for pair in found if pair["p"] is not None]
        for pair, p in zip(tested, significance.holm([pair["p"] for pair in tested]), strict=True):
            pair["p_holm"] = p
            pair["significant"] = significance.significant(p, pair["low"], pair["high"], level=self.config.level)
        facts = runs[0].facts
        about = {
            "label_set": facts.label_set,
            "classes": list(facts.classes),
            "encoders": facts.tag,
            "shards": runs[0].shards,
        }
        return {**about, "recipes": names, "pairs": found}

    def _pairs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """The pairs of a table; none if the reference is in another one."""
        reference = self.config.reference
        if reference is None:
            return list(combinations(names, 2))
        return [(name, reference) for name in names if reference in names and name != reference]


@dataclass
class _Tests:
    """The tests of a table. A recipe's resamples are cached for its other pairs."""

    config: Any
    said: Mapping[str, Predicted]
    classes: int
    kept: dict[tuple[str, tuple[int, ...]], NDArray[np.float64]] = field(default_factory=dict)

    def pair(self, first: str, second: str) -> dict[str, Any]:
        seeds = tuple(seed for seed in self.said[first].seeds if seed in self.said[second].seeds)
        found: dict[str, Any] = {**dict.fromkeys(_COLUMNS), "first": first, "second": second, "seeds": len(seeds)}
        if len(seeds) < 2:
            return found | {"note": ONE_SEED}
        scores = [[self._score(name, seed) for seed in seeds] for name in (first, second)]
        test = significance.paired_t_test(*scores)
        confidence = 1 - self.config.level
        interval = significance.bootstrap_interval(
            self._resampled(first, seeds), self._resampled(second, seeds), confidence=confidence
        )
        differences = [of_first - of_second for of_first, of_second in zip(*scores, strict=True)]
        needed = significance.seeds_needed(differences, level=self.config.level, power=self.config.power)
        return found | {
            "difference": test["difference"],
            "t": test["t"] if np.isfinite(test["t"]) else None,
            "p": test["p"],
            "low": interval["low"],
            "high": interval["high"],
            "seeds_needed": needed,
            "note": "",
        }

    def _score(self, name: str, seed: int) -> float:
        said = self.said[name]
        labelled = said.labels >= 0
        return weighted_f1(said.labels[labelled], said.of(seed).argmax(axis=1)[labelled], self.classes)

    def _resampled(self, name: str, seeds: tuple[int, ...]) -> NDArray[np.float64]:
        if (name, seeds) not in self.kept:
            said = self.said[name]
            predicted = np.stack([said.of(seed).argmax(axis=1) for seed in seeds])
            drawn = {"resamples": self.config.resamples, "seed": self.config.bootstrap_seed}
            self.kept[name, seeds] = significance.resampled_weighted_f1(
                said.labels, predicted, said.lengths, self.classes, **drawn
            )
        return self.kept[name, seeds]
