"""Replaced contexts of a run: the identity gives the score of the run, and what is replaced depends on whether the
model is causal.
"""

from typing import Any

import pytest

from merc import files
from merc.evaluation.protocols.context_substitution import ContextSubstitution
from merc.training.loop.trainer import predict, scores
from merc.training.metrics.context_substitution import substituted_logits

from ..conftest import Place


def _evaluated(place: Place, recipe: str, **settings: Any) -> Any:
    return ContextSubstitution(ContextSubstitution.Config(**settings)).evaluate(place.run(recipe))


def test_the_identity_is_the_score_of_the_run(place: Place) -> None:
    found = _evaluated(place, "all", kinds=("identity",), draw_seeds=(0,))
    results = files.read_json(place.runs / "tiny" / "all" / "results.json")
    for seed in ("0", "1"):
        expected = {name: results["seeds"][seed]["test"][name] for name in ("weighted_f1", "accuracy", "macro_f1")}
        assert found.scores["seeds"][seed]["raw"] == pytest.approx(expected)
        assert found.scores["seeds"][seed]["identity"] == pytest.approx(expected)


def test_every_draw_has_a_row_and_a_kind_the_mean_of_its_draws(place: Place) -> None:
    found = _evaluated(place, "all", draw_seeds=(0, 1, 2))
    rows = found.tables["scores"].to_pylist()
    assert [(row["seed"], row["kind"], row["draw"]) for row in rows] == [
        (seed, kind, draw)
        for seed in (0, 1)
        for kind, draws in (("raw", [None]), ("eccs", [0, 1, 2]), ("eics", [0, 1, 2]))
        for draw in draws
    ]
    eics = [row["weighted_f1"] for row in rows if row["kind"] == "eics" and row["seed"] == 1]
    assert found.scores["seeds"]["1"]["eics"]["weighted_f1"] == pytest.approx(sum(eics) / 3)
    assert found.scores["replaced"] == "earlier and later utterances"
    run = place.run("all")
    one = list(run.models())[1]
    logits = substituted_logits(
        one.split("test"), lambda split: predict(one.model, split), "eics", causal=False, seed=2
    )
    assert scores(one.split("test").labels[:-1].numpy(), logits, 3)["weighted_f1"] == pytest.approx(eics[2])


def test_in_a_causal_model_earlier_utterances_alone_are_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def noted(split: Any, of: Any, kind: Any, *, causal: bool, seed: int) -> Any:
        asked.append(causal)
        return of(split)

    monkeypatch.setattr("merc.evaluation.protocols.context_substitution.substituted_logits", noted)
    monkeypatch.setattr("merc.training.models.context_gru.ContextGRU.causal", True)
    _evaluated(place, "once", draw_seeds=(0,))
    assert asked == [True, True]
