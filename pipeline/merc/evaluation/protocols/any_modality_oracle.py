"""The predictions of each modality by itself, and the score of a perfect choice among them
(:mod:`merc.training.metrics.any_modality_oracle`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc.evaluation.engine.base import Found, Protocol
from merc.evaluation.engine.runs import Run, SeedModel
from merc.evaluation.engine.summary import over_seeds
from merc.params import Settings
from merc.records.features import vectors
from merc.training.data.dataset import DialogueSplit
from merc.training.loop.trainer import outputs, predict, scores
from merc.training.metrics.any_modality_oracle import any_modality_oracle
from merc.training.metrics.modality_dropout import without_modalities

HEADS, ALONE = "heads of the model", "the other modalities dropped"


class AnyModalityOracle(Protocol):
    """Unimodal scores and the oracle on test: over the seeds, the scores ``fused``, of each modality and ``oracle``;
    ``unimodal.parquet`` has the predictions.

    A modality's prediction is that of the model's own head for it, if it has such heads, else that of the model with
    all other modalities absent; ``source`` says which.
    """

    class Config(Settings):
        """There are no settings."""

    def lacks(self, run: Run) -> str:
        return "" if len(run.facts.modalities) > 1 else "the recipe sees one modality"

    def evaluate(self, run: Run) -> Found:
        """Predicts test once for each modality."""
        found, tables, source = {}, [], ""
        for one in run.models():
            split = one.split("test")
            source, logits = _unimodal(one, split)
            found[one.seed] = _scores(one, split, logits)
            tables += [_table(one.seed, split, name, values_NC) for name, values_NC in logits.items()]
        return Found(
            scores={"split": "test", "source": source, **over_seeds(found)},
            tables={"unimodal": pa.concat_tables(tables)},
        )


def _unimodal(one: SeedModel, split: DialogueSplit) -> tuple[str, Mapping[str, Any]]:
    """Their source, and modality → logits [N, C]."""
    heads = outputs(one.model, split, lambda output: output.unimodal_logits)
    if heads:
        return HEADS, heads
    return ALONE, {name: predict(one.model, _only(split, name)) for name in split.features}


def _only(split: DialogueSplit, modality: str) -> DialogueSplit:
    return without_modalities(split, {name: 1.0 for name in split.features if name != modality}, 0)


def _scores(one: SeedModel, split: DialogueSplit, logits: Mapping[str, Any]) -> dict[str, Any]:
    labels, classes = split.labels_cpu[:-1].numpy(), one.model.classes
    fused, labelled = predict(one.model, split), labels >= 0
    said = {name: values_NC.argmax(dim=1).numpy()[labelled] for name, values_NC in logits.items()}
    oracle = any_modality_oracle(labels[labelled], said, fused.argmax(dim=1).numpy()[labelled], classes)
    return {
        "fused": scores(labels, fused, classes),
        **{name: scores(labels, values_NC, classes) for name, values_NC in logits.items()},
        "oracle": oracle,
    }


def _table(seed: int, split: DialogueSplit, modality: str, logits_NC: Any) -> pa.Table:
    probabilities: NDArray[np.float32] = logits_NC.softmax(dim=1).numpy()
    count = split.utterances
    columns = {
        "seed": pa.array(np.full(count, seed)),
        "utterance_id": pa.array(split.utterance_ids, pa.string()),
        "modality": pa.array([modality] * count, pa.string()),
        "present": pa.array(split.present[modality][:-1].cpu().numpy()),
        "label": pa.array(split.labels_cpu[:-1].numpy()),
        "predicted": pa.array(probabilities.argmax(axis=1)),
        "probabilities": vectors(probabilities),
    }
    return pa.table(columns)
