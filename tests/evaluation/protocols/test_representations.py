"""The map of a run's representations: which utterances it shows, that it is repeatable, and what is undefined for few
or one-sided utterances.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from merc.evaluation.engine.runs import Run
from merc.evaluation.protocols.representations import Representations
from merc.training.loop.trainer import outputs

from ..conftest import Place


def _evaluated(place: Place, recipe: str = "once", **settings: Any) -> Any:
    return Representations(Representations.Config(**settings)).evaluate(place.run(recipe))


def test_silhouettes_of_every_seed_are_those_of_what_its_classifier_sees(place: Place) -> None:
    found = _evaluated(place, "all")
    for one in place.run("all").models():
        split = one.split("test")
        seen = outputs(one.model, split, lambda output: {"hidden": output.hidden})["hidden"].numpy()
        seen /= np.linalg.norm(seen, axis=1, keepdims=True)
        expected = silhouette_score(seen, split.labels_cpu[:-1].numpy())
        scores = found.scores["seeds"][str(one.seed)]
        assert scores["silhouette"] == pytest.approx(expected, abs=1e-5)
        assert list(scores["by_emotion"]) == ["neutral", "joy", "anger"]
    assert found.scores["mean"]["silhouette"] > 0.1  # the vectors encode the class


def test_the_map_has_a_place_for_every_labelled_test_utterance_of_the_first_seed(place: Place) -> None:
    points = _evaluated(place, "all").tables["points"]
    said = place.run("all").predictions("test")
    assert points["utterance_id"].to_pylist() == list(said.utterance_ids)
    assert points["label"].to_pylist() == said.labels.tolist()
    assert set(points["seed"].to_pylist()) == {0}
    assert np.isfinite(points["x"].to_numpy()).all()


def test_it_is_the_same_every_time(place: Place) -> None:
    assert _evaluated(place).tables["points"].equals(_evaluated(place).tables["points"])


def test_no_more_utterances_than_the_settings_say_spread_over_the_split(place: Place) -> None:
    said = place.run("once").predictions("test")
    found = _evaluated(place, most_utterances=8)
    ids = found.tables["points"]["utterance_id"].to_pylist()
    assert (len(ids), found.scores["utterances"]) == (8, 8)
    places = [said.utterance_ids.index(one) for one in ids]
    assert places == sorted(places)
    assert places[-1] > len(said.utterance_ids) * 3 // 4


@pytest.mark.parametrize(("kept", "drawn"), [(3, 0), (6, 6)])
def test_where_there_are_few_utterances_or_one_emotion_nothing_is_claimed(
    place: Place, monkeypatch: pytest.MonkeyPatch, kept: int, drawn: int
) -> None:
    read = Run.raw_split

    def with_few_labels(run: Run, name: str) -> Any:
        split = read(run, name)
        labels = split.labels.clone()
        labels[kept:] = -1
        labels[:kept] = 1
        return dataclasses.replace(split, labels=labels)

    monkeypatch.setattr(Run, "raw_split", with_few_labels)
    found = _evaluated(place)
    assert found.scores["mean"] == {"silhouette": None, "by_emotion": {"neutral": None, "joy": None, "anger": None}}
    assert found.tables["points"].num_rows == drawn
