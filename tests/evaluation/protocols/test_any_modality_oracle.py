"""Unimodal predictions of a run, from its heads or with all other modalities dropped, and the oracle over them."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from merc.evaluation.protocols.any_modality_oracle import ALONE, HEADS, AnyModalityOracle
from merc.training.loop.trainer import predict
from merc.training.metrics.modality_dropout import without_modalities
from merc.training.models.context_gru import ContextGRU

from ..conftest import Place

MODALITIES = ("text", "audio", "visual")


def _evaluated(place: Place) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = AnyModalityOracle(AnyModalityOracle.Config()).evaluate(place.run("all"))
    return found.scores, found.tables["unimodal"].to_pylist()


def _oracle(rows: list[dict[str, Any]], seed: int, fused: Any) -> float:
    """Share of the utterances that any modality gets right; where none does, it makes no difference whether the fused
    prediction is right.
    """
    labels = [row["label"] for row in rows if (row["seed"], row["modality"]) == (seed, "text")]
    said = [[row["predicted"] for row in rows if (row["seed"], row["modality"]) == (seed, name)] for name in MODALITIES]
    return float(
        np.mean([label in every or label == other for label, other, *every in zip(labels, fused, *said, strict=True)])
    )


def test_the_heads_of_a_model_are_asked_where_it_has_some(place: Place) -> None:
    scores, rows = _evaluated(place)
    assert scores["source"] == HEADS
    assert list(scores["mean"]) == ["fused", *MODALITIES, "oracle"]
    run = place.run("all")
    fused = [predict(one.model, one.split("test")).argmax(dim=1).tolist() for one in run.models()]
    for seed in (0, 1):
        assert scores["seeds"][str(seed)]["oracle"]["accuracy"] == pytest.approx(_oracle(rows, seed, fused[seed]))
    assert scores["mean"]["oracle"]["weighted_f1"] >= max(
        scores["mean"][name]["weighted_f1"] for name in ("fused", *MODALITIES)
    )
    assert len(rows) == 2 * 3 * len(fused[0])
    said = [row["predicted"] for row in rows if (row["seed"], row["modality"]) == (1, "audio")]
    labels = [row["label"] for row in rows if (row["seed"], row["modality"]) == (1, "audio")]
    assert scores["seeds"]["1"]["audio"]["accuracy"] == pytest.approx(np.mean(np.array(said) == labels))
    assert all(max(row["probabilities"]) == row["probabilities"][row["predicted"]] for row in rows)


def test_a_model_without_heads_is_asked_with_the_other_modalities_dropped(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ContextGRU.forward
    monkeypatch.setattr(
        ContextGRU, "forward", lambda model, batch: dataclasses.replace(forward(model, batch), unimodal_logits={})
    )
    scores, rows = _evaluated(place)
    assert scores["source"] == ALONE
    one = next(iter(place.run("all").models()))
    only_audio = without_modalities(one.split("test"), {"text": 1.0, "visual": 1.0}, 0)
    said = [row["predicted"] for row in rows if (row["seed"], row["modality"]) == (0, "audio")]
    assert said == predict(one.model, only_audio).argmax(dim=1).tolist()


def test_it_is_nothing_for_a_recipe_of_one_modality(place: Place) -> None:
    protocol = AnyModalityOracle(AnyModalityOracle.Config())
    assert protocol.lacks(place.run("text")) == "the recipe sees one modality"
    assert protocol.lacks(place.run("all")) == ""
