import numpy as np
import pytest

from merc.training.metrics.macro_f1 import macro_f1


def test_every_class_counts_alike_also_one_that_does_not_occur():
    # F1 of 0: 2·2/(2+3) = .8; of 1: 2·1/(3+2) = .4; of 2, and of 3, which occurs nowhere: 0.
    assert macro_f1(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 1]), 4) == pytest.approx((0.8 + 0.4) / 4)
