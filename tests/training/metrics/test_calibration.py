"""Calibration compared with loops, closed forms and torch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.metrics.calibration import (
    best_temperature,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    tempered,
)


def problem(seed=0, count=60, classes=4):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes))
    labels = np.array([rng.choice(classes, p=one) for one in np.exp(logits) / np.exp(logits).sum(1, keepdims=True)])
    return labels, logits, torch.tensor(logits).softmax(1).numpy()


@given(seed=st.integers(0, 10**6), bins=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_error_and_curve_are_those_written_with_loops(seed, bins):
    labels, _, probabilities = problem(seed)
    curve = reliability(labels, probabilities, bins)
    error = 0.0
    for place, found in enumerate(curve):
        low, high = place / bins, (place + 1) / bins
        inside = [n for n in range(60) if low < probabilities[n].max() <= high]
        assert (found["low"], found["high"], found["support"]) == (low, high, len(inside))
        if not inside:
            assert found["confidence"] is None
            assert found["accuracy"] is None
            continue
        confidence = np.mean([probabilities[n].max() for n in inside])
        accuracy = np.mean([probabilities[n].argmax() == labels[n] for n in inside])
        assert (found["confidence"], found["accuracy"]) == (pytest.approx(confidence), pytest.approx(accuracy))
        error += len(inside) / 60 * abs(confidence - accuracy)
    assert expected_calibration_error(labels, probabilities, bins) == pytest.approx(error)


def test_a_model_that_is_sure_and_right_has_no_error_and_one_that_is_sure_and_wrong_errs_wholly():
    sure = np.eye(3)[[0, 1, 2, 0]]
    assert expected_calibration_error(np.array([0, 1, 2, 0]), sure, 10) == 0.0
    assert expected_calibration_error(np.array([1, 2, 0, 1]), sure, 10) == 1.0
    assert reliability(np.array([0]), np.array([[1.0, 0.0]]), 4)[3]["support"] == 1  # 1 is in the last range


def test_a_temperature_divides_the_logits_and_one_changes_nothing():
    _, logits, probabilities = problem(1)
    np.testing.assert_allclose(tempered(probabilities, 1.0), probabilities)
    np.testing.assert_allclose(tempered(probabilities, 2.5), torch.tensor(logits / 2.5).softmax(1).numpy())


def test_the_likelihood_is_torchs():
    labels, logits, probabilities = problem(2)
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels)).item()
    assert negative_log_likelihood(labels, probabilities) == pytest.approx(expected)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_what_made_the_logits_too_large_or_too_small(factor):
    labels, logits, _ = problem(3, count=4000)
    given_probabilities = torch.tensor(logits * factor).softmax(1).numpy()
    temperature = best_temperature(labels, given_probabilities)
    assert temperature == pytest.approx(factor, rel=0.08)  # 4,000 labels drawn from the right probabilities
    least = negative_log_likelihood(labels, tempered(given_probabilities, temperature))
    for other in np.exp(np.linspace(-3.5, 3.5, 57)):
        assert least <= negative_log_likelihood(labels, tempered(given_probabilities, other)) + 1e-9


def test_probabilities_that_float32_rounded_to_zero_cost_much_and_not_everything():
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert negative_log_likelihood(np.array([1, 0]), probabilities) == pytest.approx(
        -math.log(np.finfo(np.float32).tiny) / 2
    )
    assert np.isfinite(tempered(probabilities, 3.0)).all()
    assert np.isfinite(best_temperature(np.array([1, 0]), probabilities))


@pytest.mark.parametrize("function", [expected_calibration_error, negative_log_likelihood, best_temperature])
def test_nothing_and_what_does_not_fit_is_refused(function):
    more = (10,) if function is expected_calibration_error else ()
    with pytest.raises(ValueError, match="there is no utterance"):
        function(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), *more)
    with pytest.raises(ValueError, match=r"3 labels, and probabilities \(2, 2\)"):
        function(np.zeros(3, dtype=np.int64), np.full((2, 2), 0.5), *more)
