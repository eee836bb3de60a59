import numpy as np
import pytest

from merc.training.metrics.weighted_f1 import weighted_f1

# Actual 0 0 0 1 1 2, predicted 0 0 1 1 2 1. F1 of 0: 2·2/(2+3) = .8; of 1: 2·1/(3+2) = .4; of 2: 0; of 3, which occurs
# nowhere: 0.
ACTUAL, PREDICTED = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 1])


def test_it_weighs_by_support():
    assert weighted_f1(ACTUAL, PREDICTED, 4) == pytest.approx((3 * 0.8 + 2 * 0.4) / 6)
