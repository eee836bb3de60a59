"""Missing modalities of a run, compared with a split made by hand."""

import pytest

from merc import files
from merc.evaluation.protocols.robustness import Robustness
from merc.training.loop.trainer import predict, scores
from merc.training.metrics.modality_dropout import without_modalities

from ..conftest import Place


def test_every_modality_is_dropped_by_itself_and_with_others_at_every_rate(place: Place) -> None:
    found = Robustness(Robustness.Config(rates=(0.0, 0.5, 0.9), draw_seeds=(0, 1))).evaluate(place.run("all"))
    results = files.read_json(place.runs / "tiny" / "all" / "results.json")
    sets = ["text", "audio", "visual", "text+audio", "text+visual", "audio+visual", "text+audio+visual"]
    assert list(found.scores["mean"]) == sets
    assert all(list(rates) == ["0", "0.5", "0.9"] for rates in found.scores["mean"].values())
    assert found.tables["scores"].num_rows == 2 * 7 * 3 * 2
    for names in sets:
        assert found.scores["seeds"]["1"][names]["0"]["weighted_f1"] == pytest.approx(
            results["seeds"]["1"]["test"]["weighted_f1"]
        )
    one = next(iter(place.run("all").models()))
    split = one.split("test")
    by_hand = [
        scores(
            split.labels[:-1].numpy(),
            predict(one.model, without_modalities(split, {"text": 0.5, "visual": 0.5}, draw)),
            3,
        )["macro_f1"]
        for draw in (0, 1)
    ]
    assert found.scores["seeds"]["0"]["text+visual"]["0.5"]["macro_f1"] == pytest.approx(sum(by_hand) / 2)


def test_as_many_at_once_as_the_settings_say(place: Place) -> None:
    found = Robustness(Robustness.Config(rates=(0.5,), most_dropped=1)).evaluate(place.run("all"))
    assert list(found.scores["mean"]) == ["text", "audio", "visual"]
    of_text = Robustness(Robustness.Config(rates=(0.5,))).evaluate(place.run("once"))
    assert list(of_text.scores["mean"]) == ["text"]


def test_the_demonstration_needs_every_modality_less_the_more_is_missing(place: Place) -> None:
    """Vectors encode the class, so dropping more of them makes the score worse."""
    found = (
        Robustness(Robustness.Config(rates=(0.0, 0.9))).evaluate(place.run("all")).scores["mean"]["text+audio+visual"]
    )
    assert found["0.9"]["weighted_f1"] < found["0"]["weighted_f1"] - 0.2
