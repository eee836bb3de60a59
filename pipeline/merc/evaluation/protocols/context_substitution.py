"""ECCS and EICS: scores with the context replaced (:mod:`merc.training.metrics.context_substitution`)."""

from functools import partial
from statistics import fmean
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from merc.evaluation.engine.base import Found, Protocol
from merc.evaluation.engine.runs import Run, SeedModel
from merc.evaluation.engine.summary import over_seeds
from merc.params import Settings
from merc.training.loop.trainer import predict, scores
from merc.training.metrics.context_substitution import substituted_logits

_ROWS = pa.schema(
    [
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("draw", pa.int64()),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("weighted_f1", "accuracy", "macro_f1")),
    ]
)


class ContextSubstitution(Protocol):
    """Context substitution on test: over the seeds, the scores ``raw`` and of each kind, means over the draws, which
    ``scores.parquet`` has one by one.

    For models that see no later utterances, only earlier ones are replaced.
    """

    class Config(Settings):
        """Settings of context substitution."""

        kinds: tuple[Literal["eccs", "eics", "identity"], ...] = Field(default=("eccs", "eics"), min_length=1)
        """What replaces an utterance of the context: one with the same emotion (``eccs``), with another (``eics``), or
        itself (``identity``, a check).
        """
        draw_seeds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
        """Seeds; each gives one replacement of all contexts."""

    def evaluate(self, run: Run) -> Found:
        """Scores every labelled test utterance in its own copy of the dialogue, for each seed, kind and draw."""
        rows = [row for one in run.models() for row in self._rows(one)]
        found = {seed: _means([row for row in rows if row["seed"] == seed]) for seed in run.seeds}
        facts = {
            "split": "test",
            "replaced": "earlier utterances" if run.facts.causal else "earlier and later utterances",
        }
        return Found(scores={**facts, **over_seeds(found)}, tables={"scores": pa.Table.from_pylist(rows, schema=_ROWS)})

    def _rows(self, one: SeedModel) -> list[dict[str, Any]]:
        split, classes = one.split("test"), one.model.classes
        labels = split.labels_cpu[:-1].numpy()
        rows = [{"seed": one.seed, "kind": "raw", "draw": None, **scores(labels, predict(one.model, split), classes)}]
        for kind in self.config.kinds:
            for draw in self.config.draw_seeds:
                logits = substituted_logits(
                    split, partial(predict, one.model), kind, causal=one.model.causal, seed=draw
                )
                rows.append({"seed": one.seed, "kind": kind, "draw": draw, **scores(labels, logits, classes)})
        return rows


def _means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Kind → score, mean over its draws."""
    kinds = dict.fromkeys(row["kind"] for row in rows)
    return {
        kind: {
            name: fmean(row[name] for row in rows if row["kind"] == kind)
            for name in ("weighted_f1", "accuracy", "macro_f1")
        }
        for kind in kinds
    }
