"""The fitted classifier compared with scikit-learn's own pipeline."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from merc.adaptation import probe
from merc.adaptation.scoring import scores
from merc.encoders.engine.base import Encoded
from merc.errors import BadSettings


def _encoded(seed: int, count: int = 60) -> Encoded:
    """Vectors far from zero, of different scales, with a constant feature; every seventh is absent."""
    rng = np.random.default_rng(seed)
    vectors_ND = (rng.normal(size=(count, 6)) * [0.01, 1, 30, 1, 2, 0] + [5, -3, 100, 0, 1, 4]).astype(np.float32)
    present_N = np.arange(count) % 7 != 3
    return Encoded(vectors_ND * present_N[:, None], present_N)


def _labels(encoded: Encoded, classes: tuple[int, ...]) -> NDArray[np.int64]:
    """Labels that depend on the vectors, with some noise."""
    rng = np.random.default_rng(len(classes))
    score_N = encoded.embeddings[:, 1] + encoded.embeddings[:, 2] / 30 + rng.normal(0, 0.5, len(encoded.present))
    return np.array(classes)[np.digitize(score_N, np.quantile(score_N, np.linspace(0, 1, len(classes) + 1)[1:-1]))]


def _slow(encoded: Encoded, labels_N: NDArray[np.int64], strength: float) -> Pipeline:
    there = encoded.present
    made = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    return made.fit(encoded.embeddings[there].astype(np.float64), labels_N[there])


def test_the_logits_are_those_of_the_standardised_regression() -> None:
    train, dev = _encoded(0), _encoded(1)
    labels_N = _labels(train, (0, 1, 2))
    found = probe.fit(train, labels_N, dev, _labels(dev, (0, 1, 2)), 3)
    for one in (train, dev):
        logits_NC = one.embeddings @ found.weight.T + found.bias
        expected = _slow(train, labels_N, found.strength).decision_function(one.embeddings.astype(np.float64))
        np.testing.assert_allclose(logits_NC, expected, atol=1e-4, rtol=0)


def test_two_classes_have_the_difference_of_their_logits() -> None:
    train, dev = _encoded(0), _encoded(1)
    labels_N = _labels(train, (0, 1))
    found = probe.fit(train, labels_N, dev, _labels(dev, (0, 1)), 2)
    logits_NC = dev.embeddings @ found.weight.T + found.bias
    expected = _slow(train, labels_N, found.strength).decision_function(dev.embeddings.astype(np.float64))
    np.testing.assert_allclose(logits_NC[:, 1] - logits_NC[:, 0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("classes", [(1, 3), (0, 2, 4)])
def test_classes_without_train_utterances_have_the_lowest_logits(classes: tuple[int, ...]) -> None:
    train, dev = _encoded(0), _encoded(1)
    found = probe.fit(train, _labels(train, classes), dev, np.arange(60) % 6, 6)
    logits_NC = 10 * dev.embeddings @ found.weight.T + found.bias
    others = [number for number in range(6) if number not in classes]
    assert (logits_NC[:, others].max(axis=1) < logits_NC[:, list(classes)].min(axis=1)).all()
    assert np.isfinite(logits_NC).all()


def test_the_strength_is_the_best_on_dev_with_absent_utterances_as_zeros() -> None:
    train, dev = _encoded(0), _encoded(1)
    labels_N, of_dev_N = _labels(train, (0, 1, 2)), _labels(dev, (0, 1, 2))
    by_strength = {
        strength: scores(of_dev_N, _slow(train, labels_N, strength).predict(dev.embeddings), 3)["weighted_f1"]
        for strength in probe.STRENGTHS
    }
    assert len(set(by_strength.values())) > 1
    assert probe.fit(train, labels_N, dev, of_dev_N, 3).strength == max(by_strength, key=lambda one: by_strength[one])


@pytest.mark.parametrize("there", [True, False])
def test_train_utterances_of_one_class_are_refused(there: bool) -> None:
    train, dev = _encoded(0), _encoded(1)
    train.present &= there
    count = int(train.present.sum())
    labels_N = np.where(train.present, 2, 1)
    with pytest.raises(BadSettings, match=f"two classes or more among the {count} labelled .* there are {int(there)}"):
        probe.fit(train, labels_N, dev, labels_N, 3)
