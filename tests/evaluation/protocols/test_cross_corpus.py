"""Cross-corpus scores over shared emotions, compared with a loop."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from merc import files
from merc.errors import BadSettings, BadTable, RawDataMissing
from merc.evaluation.protocols.cross_corpus import CrossCorpus
from merc.layout import Layout
from merc.training.data.dataset import read_split
from merc.training.loop.trainer import predict
from merc.training.metrics.weighted_f1 import weighted_f1

from ..conftest import Place

OTHERS = ("happy", "mad", "bored")  # joy and anger of the small corpus, and one that it does not have


def _renamed(layout: Layout) -> Layout:
    """The shards with the classes ``OTHERS``."""
    path = layout.shards / "meta" / "info.json"
    info = files.read_json(path)
    for counts in info["counts"].values():
        counts["labels"] = {new: counts["labels"][old] for new, old in zip(OTHERS, info["classes"], strict=True)}
    files.write_json(path, info | {"classes": list(OTHERS), "label_set": "others3"})
    return layout


@pytest.fixture
def other(place: Place, make_shards: Callable[..., Layout]) -> Layout:
    """Shards of another corpus with the same encoders, whose classes are ``OTHERS``."""
    return _renamed(make_shards(splits={"train": 4, "dev": 3, "test": 9}, dataset="other"))


def _protocol(**settings: Any) -> CrossCorpus:
    return CrossCorpus(CrossCorpus.Config(datasets=("other",), **settings))


@pytest.mark.parametrize("shared_only", [True, False])
def test_the_scores_are_those_over_the_shared_emotions(place: Place, other: Layout, shared_only: bool) -> None:
    scores = _protocol(shared_only=shared_only).evaluate(place.run("text")).scores["datasets"]["other"]
    assert scores["shared"] == ["joy", "anger"]
    for one in place.run("text").models():
        split = one.loaded.standardisation.apply_(read_split(other.shards, "test", ["text"], 3))
        pairs = []
        for label, logits in zip(split.labels[:-1].tolist(), predict(one.model, split), strict=True):
            if OTHERS[label] == "bored":
                continue
            said = int(logits[1:].argmax()) if shared_only else int(logits.argmax()) - 1  # of neutral, joy, anger
            pairs.append((label, said if said >= 0 else 2))
        labels, said = np.array(pairs).T
        assert scores["there"]["support"] == len(labels)
        assert scores["there"]["seeds"][str(one.seed)]["weighted_f1"] == pytest.approx(weighted_f1(labels, said, 2))
    assert scores["own_test"]["support"] > scores["there"]["support"] / 2


def test_labels_that_stand_for_one_emotion_count_as_one(place: Place, other: Layout) -> None:
    same = {"happy": "aroused", "mad": "aroused", "joy": "aroused", "anger": "aroused", "bored": "neutral"}
    scores = _protocol(same=same).evaluate(place.run("text")).scores["datasets"]["other"]
    assert scores["shared"] == ["neutral", "aroused"]
    one = next(iter(place.run("text").models()))
    split = one.loaded.standardisation.apply_(read_split(other.shards, "test", ["text"], 3))
    probabilities = predict(one.model, split).softmax(dim=1).numpy()
    said = (probabilities[:, 1] + probabilities[:, 2] > probabilities[:, 0]).astype(int)
    labels = np.array([1, 1, 0])[split.labels[:-1].numpy()]
    assert scores["there"]["seeds"]["0"]["accuracy"] == pytest.approx((said == labels).mean())


def test_it_is_left_out_where_no_other_dataset_is_named(place: Place) -> None:
    assert (
        CrossCorpus(CrossCorpus.Config()).lacks(place.run("text"))
        == "evaluation.cross_corpus.datasets names no other dataset"
    )
    assert CrossCorpus(CrossCorpus.Config(datasets=("tiny",))).lacks(place.run("text"))
    assert _protocol().lacks(place.run("text")) == ""


def test_the_other_shards_are_part_of_what_decides_the_result(place: Place, other: Layout) -> None:
    before = _protocol().inputs(place.run("text"))
    path = other.shards / "meta" / "info.json"
    files.write_json(path, files.read_json(path) | {"fingerprint": "another"})
    assert _protocol().inputs(place.run("text")) == {"other": "another"} != before


def test_what_does_not_fit_is_refused(place: Place, other: Layout) -> None:
    with pytest.raises(
        BadSettings, match=r"share no emotion; say in evaluation\.cross_corpus\.same which labels are equivalent"
    ):
        _protocol(same={}).evaluate(place.run("text"))
    with pytest.raises(RawDataMissing, match="no shards of 'elsewhere'"):
        CrossCorpus(CrossCorpus.Config(datasets=("elsewhere",))).evaluate(place.run("text"))
    path = other.shards / "meta" / "info.json"
    info = files.read_json(path)
    info["encoders"]["text"]["name"] = "another"
    files.write_json(path, info)
    with pytest.raises(BadSettings, match=r"of the encoder text-encoder, and those at .* are of another"):
        _protocol().evaluate(place.run("text"))


def test_a_test_split_without_a_shared_emotion_is_refused(place: Place, make_shards: Callable[..., Layout]) -> None:
    _renamed(make_shards(splits={"train": 2, "dev": 2, "test": 3}, dataset="other", labels=lambda label: 2))
    with pytest.raises(BadTable, match="has one of the shared emotions joy, anger"):
        _protocol().evaluate(place.run("text"))
