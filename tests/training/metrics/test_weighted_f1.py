import numpy as np
import pytest

from merc.training.metrics.accuracy import accuracy
from merc.training.metrics.macro_f1 import macro_f1
from merc.training.metrics.weighted_f1 import weighted_f1

# Actual 0 0 0 1 1 2, predicted 0 0 1 1 2 1. F1 of 0: 2·2/(2+3) = .8; of 1: 2·1/(3+2) = .4; of 2: 0; of 3, which occurs nowhere: 0.
ACTUAL, PREDICTED = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 1])


def test_weighted_f1_weighs_by_support():
    assert weighted_f1(ACTUAL, PREDICTED, 4) == pytest.approx((3 * 0.8 + 2 * 0.4) / 6)


def test_macro_f1_counts_every_class_alike():
    assert macro_f1(ACTUAL, PREDICTED, 4) == pytest.approx((0.8 + 0.4) / 4)


def test_accuracy_is_the_share_that_is_right():
    assert accuracy(ACTUAL, PREDICTED) == pytest.approx(0.5)


def test_the_order_of_utterances_changes_nothing():
    order = np.random.default_rng(0).permutation(len(ACTUAL))
    assert weighted_f1(ACTUAL[order], PREDICTED[order], 3) == weighted_f1(ACTUAL, PREDICTED, 3)


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="sample"):
        weighted_f1(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 3)
